import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import type { WriteStream } from 'node:tty';
import { Screen } from '../../src/status/screen.js';

test('a view that goes on for hours leaves nothing behind with each write', async () => {
  const out = new PassThrough();
  const screen = new Screen(out as unknown as WriteStream, {});
  for (let i = 0; i < 20; i++) await screen.write(`${i}\n`);
  assert.equal(out.listenerCount('error'), 0);
  assert.match(String(out.read()), /^0\n1\n[^]*19\n$/);
});

test('where nobody reads any more, a write ends, and so does nothing else', async () => {
  const out = new PassThrough();
  const screen = new Screen(out as unknown as WriteStream, {});
  out.destroy();
  await screen.write('too late\n');
});
