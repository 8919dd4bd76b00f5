import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { StoreUnavailableError } from '../../src/errors.js';
import { LeaseKeeper } from '../../src/lease/keeper.js';
import type { LeaseAttrs, OwnLease } from '../../src/lease/lease.js';
import { attrsOf, captureLog, subnetOf } from '../lib/store.js';
import { eventually } from '../lib/eventually.js';

const HERE = attrsOf('192.168.0.1');
const THERE = attrsOf('192.168.0.2');

function lease(attrs: LeaseAttrs, revision = '1'): OwnLease {
  return { subnet: subnetOf('10.5.1.0/24'), attrs, expiration: Date.now() + 86_400_000, revision };
}

/** A store that answers when told to, and remembers what it was asked for. */
class FakeStore {
  asked: [string, LeaseAttrs][] = [];
  away = false;

  renewLease(old: OwnLease, _: AbortSignal, attrs = old.attrs): Promise<OwnLease> {
    this.asked.push([old.revision, attrs]);
    if (this.away) return Promise.reject(new StoreUnavailableError('away'));
    return Promise.resolve(lease(attrs, String(Number(old.revision) + 1)));
  }

  touchLease(old: OwnLease): Promise<OwnLease> {
    return this.renewLease(old, end);
  }
}

const end = new AbortController().signal;

let lines: string[];
let store: FakeStore;
beforeEach(() => {
  lines = captureLog();
  store = new FakeStore();
});

/** Runs a keeper during `action`. */
async function keeping(action: (keeper: LeaseKeeper) => Promise<void>): Promise<void> {
  const end = new AbortController();
  const keeper = new LeaseKeeper(store, lease(HERE), 3_600_000);
  const running = keeper.run(end.signal);
  try {
    await action(keeper);
  } finally {
    end.abort();
    await running;
  }
}

describe('another public IP', () => {
  test('is announced at once, on top of the version at hand', () =>
    keeping(async (keeper) => {
      keeper.announce(THERE);
      assert.ok(keeper.owns(HERE) && keeper.owns(THERE) && !keeper.owns(attrsOf('192.168.0.3')));
      await eventually(() => lines.some((line) => line.includes('Lease renewed')));
      assert.deepEqual(store.asked, [['1', THERE]]);
      assert.ok(keeper.owns(THERE) && !keeper.owns(HERE));
      keeper.announce(THERE);
      keeper.reclaim();
      await eventually(() => store.asked.length === 2);
      assert.deepEqual(store.asked[1], ['2', THERE]);
    }));

  test('is announced in seconds, not minutes, when the store was away', async () => {
    store.away = true;
    await keeping(async (keeper) => {
      keeper.announce(THERE);
      await eventually(() => lines.some((line) => line.includes('trying again in 2 s')));
      store.away = false;
      await eventually(() => lines.some((line) => line.includes('Lease renewed')));
      store.away = true;
      keeper.reclaim();
      await eventually(() => lines.some((line) => line.includes('trying again in 60 s')));
    });
  });

  test('announced before the keeper runs is not forgotten', async () => {
    const end = new AbortController();
    const keeper = new LeaseKeeper(store, lease(HERE), 3_600_000);
    keeper.announce(THERE);
    const running = keeper.run(end.signal);
    await eventually(() => store.asked.length === 1);
    end.abort();
    await running;
    assert.deepEqual(store.asked, [['1', THERE]]);
  });
});
