import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { namesOf, toSet } from '../../src/capabilities.js';
import { parseFlags } from '../../src/flags.js';
import { capabilitiesFor } from '../../src/privileges.js';

const ALWAYS = ['CAP_NET_ADMIN', 'CAP_NET_RAW'];
let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'flannel-test-'));
});
after(() => {
  rmSync(folder, { recursive: true });
});

/** What is kept with these flags, for the owner of the folder or for the user of the given id. */
function kept(flags: readonly string[], { uid = statSync(folder).uid, port = 8285 } = {}): string[] {
  const command = parseFlags([`--subnet-file=${folder}/subnet.env`, ...flags], {});
  assert(command.kind === 'run');
  return [...capabilitiesFor(command.options, port, { uid, groups: [] })].sort();
}

test('by default the network and no more', () => {
  assert.deepEqual(kept([]), ALWAYS);
});

test('a port below 1024 may have to be bound again', () => {
  assert.deepEqual(kept([], { port: 1023 }), ['CAP_NET_ADMIN', 'CAP_NET_BIND_SERVICE', 'CAP_NET_RAW']);
  assert.deepEqual(kept(['--healthz-port=80']), ['CAP_NET_ADMIN', 'CAP_NET_BIND_SERVICE', 'CAP_NET_RAW']);
  assert.deepEqual(kept(['--healthz-port=8080'], { port: 1024 }), ALWAYS);
});

test('secrets that are read again may be other users’', () => {
  for (const flag of ['--kube-subnet-mgr', '--etcd-keyfile=/k', '--etcd-certfile=/c', '--etcd-cafile=/a']) {
    assert.deepEqual(kept([flag]), ['CAP_DAC_READ_SEARCH', ...ALWAYS], flag);
  }
});

describe('a folder that is written to', () => {
  const other = 4_000_000;

  test('of another user takes CAP_DAC_OVERRIDE', () => {
    assert.deepEqual(kept([], { uid: other }), ['CAP_DAC_OVERRIDE', ...ALWAYS]);
    const elsewhere = ['--subnet-file=/nowhere/subnet.env', `--subnet-dir=${folder}`];
    assert.deepEqual(kept(elsewhere, { uid: other }), ['CAP_DAC_OVERRIDE', ...ALWAYS]);
  });

  test('that is open to all does not', () => {
    const { mode } = statSync(folder);
    chmodSync(folder, 0o1777);
    assert.deepEqual(kept([], { uid: other }), ALWAYS);
    chmodSync(folder, mode);
  });
});

test('names and sets', () => {
  assert.equal(toSet(['CAP_NET_ADMIN', 'CAP_DAC_OVERRIDE']), 0x1002n);
  assert.deepEqual(namesOf(0x3000n | (1n << 40n)), ALWAYS);
});
