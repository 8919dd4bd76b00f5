import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { RefusalLog } from '../../src/backend/refusals.js';
import type { Refusal } from '../../src/dataplane.js';

const MINUTE_MS = 60_000;

let now: number;
let lines: string[];
let refusals: RefusalLog;
beforeEach(() => {
  now = 1000;
  lines = [];
  refusals = new RefusalLog((line) => lines.push(line), { monotonicMs: () => now });
});

/** 198.51.100.n */
function stranger(n: number, reason: Refusal['reason'] = 'peer'): Refusal {
  return { reason, source: 0xc6336400 + n, innerSource: 0x0af40107 };
}

describe('RefusalLog', () => {
  test('names a stranger, what he sent, and both remedies', () => {
    refusals.report([stranger(7)]);
    const [line = ''] = lines;
    assert.match(line, /198\.51\.100\.7 \(inner source 10\.244\.1\.7\)/);
    assert.match(line, /--public-ip/);
    assert.match(line, /"SourceCheck": "none"/);
  });

  test('names a peer that sends from the subnet of another', () => {
    refusals.report([stranger(7, 'subnet')]);
    assert.match(lines[0] ?? '', /the peer 198\.51\.100\.7: .*10\.244\.1\.7, .*"SourceCheck": "peer"/);
  });

  test('names a source once a minute', () => {
    for (let second = 0; second < 60; second++, now += 1000) refusals.report([stranger(7), stranger(7)]);
    assert.equal(lines.length, 1);
    refusals.report([stranger(7)]);
    assert.equal(lines.length, 2);
  });

  test('a flood from invented sources is a few lines a minute, and said to be more', () => {
    for (let n = 0; n < 200; n++, now += 100) refusals.report([stranger(n)]);
    assert.equal(lines.length, 20);
    now += MINUTE_MS;
    refusals.report([]);
    assert.equal(lines.length, 21);
    assert.match(lines[20] ?? '', /more sources than are named/);
    refusals.report([]);
    assert.equal(lines.length, 21);
  });
});
