import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { StoreMonitor } from '../../src/subnet/health.js';
import { TestClock } from '../lib/clock.js';
import { captureLog } from '../lib/store.js';

const HOUR = 3_600_000;

describe('StoreMonitor', () => {
  let clock: TestClock;
  let log: string[];
  let monitor: StoreMonitor;
  beforeEach(() => {
    clock = new TestClock();
    log = captureLog();
    monitor = new StoreMonitor('etcd', clock);
  });

  test('keeps no secret of what the store has said', () => {
    monitor.failed(new Error('no answer from https://root:hush@10.0.0.1:2379'));
    assert.equal(monitor.health.lastError, 'no answer from https://***@10.0.0.1:2379');
  });

  test('counts a store as away until it has answered', async () => {
    const since = clock.wallMs();
    await clock.pass(5_000);
    const nothing = { lastError: null, tableRevision: null, hasTable: false, silentForMs: null };
    assert.deepEqual(monitor.health, { reachable: false, since, forMs: 5_000, ...nothing });
    monitor.failed(new Error('refused'));
    assert.equal(monitor.health.since, since);
    assert.equal(monitor.health.lastError, 'refused');
    await clock.pass(1_000);
    monitor.answered();
    monitor.tableIs('42');
    assert.deepEqual(monitor.health, {
      reachable: true,
      since: since + 6_000,
      forMs: 0,
      lastError: 'refused',
      tableRevision: '42',
      hasTable: true,
      silentForMs: 0,
    });
    assert.deepEqual(log, [], 'whoever asked has said it');
  });

  test('logs an outage once when it begins and once when it ends, with its length and begin', async () => {
    monitor.answered();
    await clock.pass(HOUR);
    const begin = new Date(clock.wallMs()).toISOString();
    for (let i = 0; i < 5; i++) {
      monitor.lost(new Error(`failure ${i}`));
      await clock.pass(3_000);
    }
    assert.equal(monitor.health.reachable, false);
    assert.equal(monitor.health.forMs, 15_000);
    assert.equal(monitor.health.lastError, 'failure 4');
    monitor.answered();
    monitor.answered();
    assert.equal(log.length, 2);
    assert.match(log[0] ?? '', /lost etcd \(failure 0\); keeping the leases known so far/);
    assert.ok(log[1]?.includes(`etcd is back; it was away for 15 s, since ${begin}`), log[1]);
  });

  test('measures what really passed when the wall clock was set meanwhile', async () => {
    monitor.answered();
    monitor.lost(new Error('gone'));
    await clock.pass(10_000);
    clock.setWall(-24 * HOUR);
    assert.equal(monitor.health.forMs, 10_000);
    monitor.answered();
    assert.match(log[1] ?? '', /away for 10 s/);
  });
});
