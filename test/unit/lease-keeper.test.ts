import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { LeaseError, StoreUnavailableError } from '../../src/errors.js';
import { LeaseKeeper } from '../../src/lease/keeper.js';
import type { OwnLease, StoredLease, Writer } from '../../src/lease/lease.js';
import type { OwnLeaseChange } from '../../src/lease/tracker.js';
import { TestClock } from '../lib/clock.js';
import { eventually } from '../lib/eventually.js';
import { attrsOf, captureLog, subnetOf } from '../lib/store.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const MARGIN = HOUR;
const KEY = '10.5.1.0-24';

let clock: TestClock;
let log: string[];
let stop: AbortController;
let running: Promise<void>;
/** When leases were renewed, in hours that have really passed. */
let renewals: number[];
let touches: string[];
/** Set to make renewals fail. */
let failure: Error | null;

beforeEach(() => {
  clock = new TestClock();
  log = captureLog();
  stop = new AbortController();
  running = Promise.resolve();
  renewals = [];
  touches = [];
  failure = null;
});
afterEach(async () => {
  stop.abort();
  await running.catch(() => undefined);
});

function leaseOf(revision: string, reservation = false): OwnLease {
  const expiration = reservation ? null : clock.wallMs() + DAY;
  return { subnet: subnetOf('10.5.1.0/24'), attrs: attrsOf('192.168.0.1'), revision, expiration };
}

function keep(lease = leaseOf('own-0')): LeaseKeeper {
  const store = {
    renewLease: (): Promise<OwnLease> => {
      if (failure !== null) return Promise.reject(failure);
      renewals.push(clock.monotonicMs() / HOUR);
      return Promise.resolve(leaseOf(`own-${renewals.length}`));
    },
    touchLease: ({ revision }: OwnLease): Promise<OwnLease> => {
      touches.push(revision);
      return Promise.resolve(leaseOf(`touched-${touches.length}`));
    },
  };
  const keeper = new LeaseKeeper(store, lease, MARGIN, clock);
  running = keeper.run(stop.signal);
  running.catch(() => undefined);
  return keeper;
}

function seen(revision: string, writer: Writer, ip = '192.168.0.1', reservation = false): OwnLeaseChange {
  const lease: StoredLease = {
    subnet: subnetOf('10.5.1.0/24'),
    attrs: attrsOf(ip),
    revision,
    reservation,
    writer,
  };
  return { type: 'rewritten', lease };
}

const logged = (text: string): number => log.filter((line) => line.includes(text)).length;

describe('when a lease is renewed', () => {
  test('its margin before the end, again and again', async () => {
    keep();
    await clock.pass(22.9 * HOUR);
    assert.deepEqual(renewals, []);
    await clock.pass(0.2 * HOUR);
    assert.equal(renewals.length, 1);
    await clock.pass(DAY);
    assert.equal(renewals.length, 2);
    for (const [i, hour] of renewals.entries()) assert.ok(Math.abs(hour - 23 * (i + 1)) < 0.05);
  });

  test('no later because the wall clock was set back a day', async () => {
    keep();
    await clock.pass(HOUR);
    clock.setWall(-DAY);
    await clock.pass(22.1 * HOUR);
    assert.equal(renewals.length, 1);
    assert.ok(Math.abs((renewals[0] ?? 0) - 23) < 0.05);
    await clock.pass(23.1 * HOUR);
    assert.equal(renewals.length, 2);
  });

  test('once, at once, when the wall clock was set forward a day', async () => {
    keep();
    await clock.pass(HOUR);
    clock.setWall(DAY);
    await clock.pass(0.1 * HOUR);
    assert.equal(renewals.length, 1);
    await clock.pass(22 * HOUR);
    assert.equal(renewals.length, 1, 'the new lease is renewed after 23 h, by either clock');
  });

  test('in time when the wall clock was set back between the grant and the first look', async () => {
    const lease = leaseOf('own-0');
    clock.setWall(-DAY);
    keep(lease);
    await clock.pass(23.1 * HOUR);
    assert.equal(renewals.length, 1);
  });

  test('every minute after a failure, and in the log', async () => {
    keep();
    failure = new StoreUnavailableError('no answer');
    await clock.pass(23.05 * HOUR);
    assert.ok(logged('Error renewing lease (trying again in 60 s): no answer') >= 2);
    failure = null;
    await clock.pass(61_000);
    assert.equal(renewals.length, 1);
  });

  test('never for a reservation', async () => {
    keep(leaseOf('own-0', true));
    await clock.pass(100 * HOUR);
    assert.deepEqual(renewals, []);
  });
});

describe('when the own entry was touched', () => {
  test('a deletion is answered by a claim at once, and every 5 s while that fails', async () => {
    const keeper = keep();
    failure = new StoreUnavailableError('no answer');
    keeper.observe({ type: 'deleted', lease: null });
    await eventually(() => logged('has been revoked; claiming it again') === 1);
    await clock.pass(11_000);
    assert.equal(logged('trying again in 5 s'), 3);
    failure = null;
    await clock.pass(5_000);
    assert.equal(renewals.length, 1);
    await clock.pass(60_000);
    assert.equal(renewals.length, 1);
  });

  test('another host’s claim ends the daemon with the error that names it', async () => {
    const keeper = keep();
    failure = new LeaseError('subnet 10.5.1.0-24 now belongs to the host with public IP 192.168.0.66');
    keeper.observe({ ...seen('theirs', 'elsewhere', '192.168.0.66'), type: 'put' } as OwnLeaseChange);
    await assert.rejects(running, /192\.168\.0\.66/);
    assert.equal(logged(`the own lease ${KEY} was taken by 192.168.0.66`), 1);
  });

  test('own writes and those of a successor on this host say nothing', async () => {
    const keeper = keep();
    keeper.observe(seen('own-0', 'elsewhere'));
    keeper.observe(seen('successor', 'here'));
    await clock.pass(23.1 * HOUR);
    keeper.observe(seen('own-1', 'unknown'));
    keeper.observe(seen('own-0', 'unknown')); // A late event.
    await clock.pass(1_000);
    assert.deepEqual(touches, []);
    assert.equal(logged('another flanneld'), 0);
  });

  test('a rival with our public IP is named, and told by one rewriting; once a minute', async () => {
    const keeper = keep();
    for (let i = 0; i < 5; i++) {
      keeper.observe(seen(`rival-${i}`, i === 0 ? 'elsewhere' : 'informed'));
      await clock.pass(10_000);
    }
    assert.deepEqual(touches, ['rival-0']);
    const [line] = log.filter((text) => text.includes('another flanneld'));
    for (const part of ['192.168.0.1', KEY, '--public-ip']) assert.ok(line?.includes(part), part);
    keeper.observe(seen('touched-1', 'unknown'));
    await clock.pass(15_000);
    keeper.observe(seen('rival-9', 'elsewhere'));
    await clock.pass(1_000);
    assert.deepEqual(touches, ['rival-0', 'rival-9']);
    assert.equal(logged('another flanneld'), 2);
  });

  test('a rival that comes when there is nothing to be said for a minute is told when its entry has stood', async () => {
    const keeper = keep();
    keeper.observe(seen('rival-0', 'elsewhere'));
    await clock.pass(0);
    keeper.observe(seen('rival-1', 'elsewhere'));
    await clock.pass(900);
    keeper.observe(seen('rival-2', 'elsewhere'));
    await clock.pass(900);
    assert.deepEqual(touches, ['rival-0']);
    await clock.pass(2_200);
    assert.deepEqual(touches, ['rival-0', 'rival-2']);
    keeper.observe(seen('rival-3', 'elsewhere'));
    await clock.pass(900);
    keeper.observe(seen('told-by-another', 'informed'));
    await clock.pass(10_000);
    assert.deepEqual(touches, ['rival-0', 'rival-2']);
    assert.equal(logged('another flanneld'), 1);
    assert.deepEqual(renewals, []);
  });

  test('a lease that an operator makes a reservation is one, and the other way round', async () => {
    const keeper = keep();
    keeper.observe(seen('by-hand', 'unknown', '192.168.0.1', true));
    await clock.pass(100 * HOUR);
    assert.deepEqual([renewals, touches], [[], []]);
    assert.equal(logged(`the own lease ${KEY} has been made a reservation`), 1);
    keeper.observe(seen('by-hand-2', 'elsewhere'));
    await clock.pass(1_000);
    assert.equal(renewals.length, 1, 'it lives by a lease of unknown length until it is renewed');
    assert.equal(logged('another flanneld'), 0);
  });
});
