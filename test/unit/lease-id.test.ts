import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LeaseIds } from '../../src/subnet/etcd/lease-id.js';

const SEVERAL = 200;

test('ids are positive int64 numbers, none like another', () => {
  for (const ids of [new LeaseIds(), new LeaseIds(1), new LeaseIds(0x7fff_ffff)]) {
    const made = Array.from({ length: SEVERAL }, () => ids.next());
    for (const id of made) assert.ok(BigInt(id) > 0n && BigInt(id) < 1n << 63n, id);
    assert.equal(new Set(made).size, SEVERAL);
  }
});

test('a network stack knows its ids, and those of others as such', () => {
  const [here, there] = [new LeaseIds(), new LeaseIds(12345)];
  assert.equal(here.writerOf(here.next()), 'here');
  assert.equal(new LeaseIds().writerOf(here.next()), 'here', 'the next process on the same stack');
  assert.equal(here.writerOf(there.next()), 'elsewhere');
  assert.equal(here.writerOf(there.next(true)), 'informed');
  assert.equal(here.writerOf(here.next(true)), 'here');
  assert.equal(here.writerOf('7587886532158730246'), 'elsewhere', 'an id of etcd’s choice');
  assert.equal(here.writerOf('0'), 'unknown');
});
