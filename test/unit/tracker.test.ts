import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Cidr4, parseIp4 } from '../../src/ip.js';
import { Cidr6 } from '../../src/ip6.js';
import type { Lease, LeaseAttrs, StoredLease } from '../../src/lease/lease.js';
import { formatSubnetKey } from '../../src/lease/subnet-key.js';
import { LeaseTracker } from '../../src/lease/tracker.js';
import type { LeaseDiff } from '../../src/lease/tracker.js';
import type { LeaseEvent } from '../../src/subnet/manager.js';

const OWN = '10.5.0.0-24';

/** The lease of 10.5.n.0/24, announced by `host`. */
function lease(n: number, host = '192.168.77.1', attrs: Partial<LeaseAttrs> = {}): StoredLease {
  return {
    subnet: { v4: new Cidr4(0x0a050000 + n * 256, 24), v6: null },
    attrs: {
      publicIp: parseIp4(host) ?? 0,
      publicIpV6: null,
      backendType: '',
      backendData: null,
      backendV6Data: null,
      ...attrs,
    },
    revision: '1',
    reservation: false,
    writer: 'elsewhere',
  };
}

const put = (item: StoredLease): LeaseEvent => ({ type: 'put', lease: item });
const gone = (item: StoredLease): LeaseEvent => ({ type: 'delete', subnet: item.subnet });
const snapshot = (...leases: StoredLease[]): LeaseEvent => ({ type: 'snapshot', leases });
const NOTHING: LeaseDiff = { added: [], changed: [], removed: [], own: null };

const own = lease(0);
const [a, b] = [lease(1, '192.168.77.2'), lease(2, '192.168.77.3')];

/** A tracker that has seen the own lease and these peers. */
function tracker(...peers: StoredLease[]): LeaseTracker {
  const seen = new LeaseTracker(OWN);
  seen.apply([snapshot(own, ...peers)]);
  return seen;
}

describe('peers', () => {
  test('the first snapshot adds them, the own lease apart', () => {
    const fresh = new LeaseTracker(OWN);
    assert.deepEqual(fresh.apply([snapshot(own, a, b)]), {
      ...NOTHING,
      added: [a, b],
      own: { type: 'put', lease: own },
    });
    assert.deepEqual(fresh.leases(), [a, b]);
  });

  test('a put adds; the same again says nothing', () => {
    const seen = tracker(a);
    assert.deepEqual(seen.apply([put(b)]), { ...NOTHING, added: [b] });
    assert.deepEqual(seen.apply([put(lease(2, '192.168.77.3'))]), NOTHING);
  });

  const changes: Partial<LeaseAttrs>[] = [
    { publicIp: 1 },
    { publicIpV6: 'fd00::1' },
    { backendType: 'udp' },
    { backendData: '{"Port":1}' },
    { backendV6Data: '{}' },
  ];
  for (const attrs of changes) {
    test(`changed ${Object.keys(attrs).join()} is reported, from a put and from a snapshot`, () => {
      const now = lease(1, '192.168.77.2', attrs);
      assert.deepEqual(tracker(a, b).apply([put(now)]), { ...NOTHING, changed: [now] });
      assert.deepEqual(tracker(a, b).apply([snapshot(own, now, b)]), { ...NOTHING, changed: [now] });
    });
  }

  test('a delete brings the last known attributes; of an unknown subnet it says nothing', () => {
    const seen = tracker(a, b);
    assert.deepEqual(seen.apply([gone(lease(1, '9.9.9.9'))]), { ...NOTHING, removed: [a] });
    assert.deepEqual(seen.apply([gone(a)]), NOTHING);
    assert.deepEqual(seen.leases(), [b]);
  });

  test('a snapshot removes those it lacks', () => {
    const c = lease(3);
    assert.deepEqual(tracker(a, b).apply([snapshot(own, b, c)]), { ...NOTHING, added: [c], removed: [a] });
  });

  test('a batch gives its net effect', () => {
    const moved = lease(1, '192.168.77.9');
    assert.deepEqual(tracker(a).apply([gone(a), put(a)]), NOTHING);
    assert.deepEqual(tracker().apply([put(a), gone(a)]), NOTHING);
    assert.deepEqual(tracker(a).apply([gone(a), put(moved)]), { ...NOTHING, changed: [moved] });
    assert.deepEqual(tracker(a).apply([snapshot(own), put(a)]), NOTHING);
    assert.deepEqual(tracker(a).apply([put(moved), gone(a)]), { ...NOTHING, removed: [a] });
    assert.deepEqual(tracker(a).apply([]), NOTHING);
  });

  test('identity is the whole subnet key', () => {
    const dual = { ...a, subnet: { ...a.subnet, v6: new Cidr6('fd00::', 64) } };
    assert.deepEqual(tracker(a).apply([put(dual)]), { ...NOTHING, added: [dual] });
  });
});

describe('the own lease', () => {
  test('missing from the very first snapshot is a deletion, reported once', () => {
    const fresh = new LeaseTracker(OWN);
    assert.deepEqual(fresh.apply([snapshot(a)]).own, { type: 'deleted', lease: null });
    assert.equal(fresh.apply([snapshot(a)]).own, null);
    assert.equal(fresh.apply([gone(own)]).own, null);
  });

  test('deleted by an event or by absence from a later snapshot', () => {
    assert.deepEqual(tracker(a).apply([gone(own)]), { ...NOTHING, own: { type: 'deleted', lease: own } });
    assert.deepEqual(tracker(a).apply([snapshot(a)]), { ...NOTHING, own: { type: 'deleted', lease: own } });
    assert.deepEqual(new LeaseTracker(OWN).apply([gone(own)]).own, { type: 'deleted', lease: null });
  });

  test('unchanged says nothing, neither in a put nor in a second snapshot', () => {
    assert.deepEqual(tracker(a).apply([put(lease(0))]), NOTHING);
    assert.deepEqual(tracker(a).apply([snapshot(lease(0), a)]), NOTHING);
    assert.deepEqual(tracker(a).apply([gone(own), put(own)]), NOTHING);
  });

  test('taken over by another host is a put', () => {
    const stolen = lease(0, '192.168.77.66');
    assert.deepEqual(tracker(a).apply([put(stolen)]), { ...NOTHING, own: { type: 'put', lease: stolen } });
  });

  test('a new version that says the same is told apart from a change', () => {
    const again = { ...lease(0), revision: '2' };
    assert.deepEqual(tracker(a).apply([put(again)]), {
      ...NOTHING,
      own: { type: 'rewritten', lease: again },
    });
    assert.deepEqual(tracker(a).apply([snapshot(again, a)]), {
      ...NOTHING,
      own: { type: 'rewritten', lease: again },
    });
    const renewed = { ...a, revision: '2' };
    assert.deepEqual(tracker(a).apply([put(renewed)]), NOTHING, 'a peer may renew as it likes');
  });

  test('back after a deletion is a put', () => {
    const seen = tracker();
    seen.apply([gone(own)]);
    assert.deepEqual(seen.apply([put(own)]).own, { type: 'put', lease: own });
  });

  test('events that do not mention it leave it expected', () => {
    const fresh = new LeaseTracker(OWN);
    assert.equal(fresh.apply([put(a)]).own, null);
    assert.deepEqual(fresh.apply([put(own)]).own, { type: 'put', lease: own });
  });
});

test('applying the differences gives the same state as the events, and no difference is idle', () => {
  const some = fc
    .tuple(fc.nat({ max: 5 }), fc.constantFrom('1.1.1.1', '2.2.2.2'))
    .map(([n, host]) => lease(n, host));
  const event = fc.oneof(
    some.map(put),
    some.map(gone),
    fc
      .uniqueArray(some, { selector: (item) => formatSubnetKey(item.subnet) })
      .map((leases) => snapshot(...leases)),
  );
  fc.assert(
    fc.property(fc.array(fc.array(event, { maxLength: 4 }), { maxLength: 8 }), (batches) => {
      const seen = new LeaseTracker(OWN);
      const state = new Map<string, Lease>();
      for (const batch of batches) {
        const { added, changed, removed } = seen.apply(batch);
        for (const item of removed) assert(state.delete(formatSubnetKey(item.subnet)));
        for (const item of added) assert(!state.has(formatSubnetKey(item.subnet)));
        for (const item of changed) assert.notDeepEqual(state.get(formatSubnetKey(item.subnet)), item);
        for (const item of [...added, ...changed]) state.set(formatSubnetKey(item.subnet), item);
        const keys = (leases: Iterable<Lease>) => [...leases].map((item) => JSON.stringify(item)).sort();
        assert.deepEqual(keys(state.values()), keys(seen.leases()));
        assert(!state.has(OWN));
      }
    }),
  );
});
