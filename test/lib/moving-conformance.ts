import assert from 'node:assert/strict';
import { beforeEach, it } from 'node:test';
import { LeaseError } from '../../src/errors.js';
import { formatOwnPort } from '../../src/lease/identity.js';
import type { LeaseAttrs, OwnLease } from '../../src/lease/lease.js';
import { formatSubnetKey } from '../../src/lease/subnet-key.js';
import { LocalManager } from '../../src/subnet/local-manager.js';
import type { TestStore } from './store-conformance.js';
import { attrsOf, DAY_SECONDS, forever, subnetOf, WatchTable } from './store.js';

/** Hosts whose public IP changes, and hosts that share one. */
export function movingTests(store: () => TestStore): void {
  const manager = (previous: string | null = null): LocalManager =>
    new LocalManager(store().registry(), 'Test', previous === null ? null : subnetOf(previous).v4);
  const acquire = (attrs: LeaseAttrs, previous: string | null = null): Promise<OwnLease> =>
    manager(previous).acquireLease(attrs, forever);
  const behindNat = (port: number) => attrsOf('203.0.113.7', { backendData: formatOwnPort(port) });
  const keyOf = (lease: OwnLease) => formatSubnetKey(lease.subnet);
  beforeEach(() => store().putConfig('{"Network":"10.5.0.0/16"}'));

  it('announces another public IP under the same subnet, in one step that peers see', async () => {
    const lease = await acquire(attrsOf('192.168.0.1'));
    const table = new WatchTable(store().registry());
    await table.becomes([`${keyOf(lease)} 192.168.0.1`]);
    const moved = await manager().renewLease(lease, forever, attrsOf('192.168.0.2'));
    assert.deepEqual([moved.subnet, moved.attrs], [lease.subnet, attrsOf('192.168.0.2')]);
    await table.becomes([`${keyOf(lease)} 192.168.0.2`]);
    assert.ok(!table.batches.flat().some(({ type }) => type === 'delete'));
    assert.equal(await store().read(keyOf(lease)), '{"PublicIP":"192.168.0.2","PublicIPv6":null}');
    const later = await manager().renewLease(moved, forever);
    assert.deepEqual(later.attrs, attrsOf('192.168.0.2'));
  });

  it('takes its entry for its own on the way from one public IP to another', async () => {
    const lease = await acquire(attrsOf('192.168.0.1'));
    const next = attrsOf('192.168.0.2');
    // Rewritten meanwhile, with the old attributes and with the new ones.
    for (const ip of ['192.168.0.1', '192.168.0.2']) {
      await store().put(keyOf(lease), `{"PublicIP":"${ip}","PublicIPv6":null}`);
      const moved = await manager().renewLease(lease, forever, next);
      assert.deepEqual([moved.subnet, moved.attrs], [lease.subnet, next]);
    }
    await store().put(keyOf(lease), '{"PublicIP":"192.168.0.3","PublicIPv6":null}');
    await assert.rejects(manager().renewLease(lease, forever, next), LeaseError);
    await store().delete(keyOf(lease));
    const recreated = await manager().renewLease(lease, forever, next);
    assert.deepEqual([recreated.subnet, recreated.attrs], [lease.subnet, next]);
  });

  it('keeps a reservation one while it is announced elsewhere', async () => {
    await store().put('10.5.9.0-24', '{"PublicIP":"192.168.0.9","PublicIPv6":null}', true);
    const lease = await acquire(attrsOf('192.168.0.9'));
    const moved = await manager().renewLease(lease, forever, attrsOf('192.168.0.8'));
    assert.equal(moved.expiration, null);
    const [stored] = await store().registry().list(forever);
    assert.equal(stored?.reservation, true);
  });

  it('takes its previous subnet among several of its public IP', async () => {
    const registry = store().registry();
    for (const subnet of ['10.5.3.0/24', '10.5.4.0/24', '10.5.5.0/24']) {
      await registry.create(subnetOf(subnet), attrsOf('192.168.0.1'), DAY_SECONDS, forever);
    }
    for (const previous of ['10.5.5.0/24', '10.5.4.0/24']) {
      assert.equal((await acquire(attrsOf('192.168.0.1'), previous)).subnet.v4?.toString(), previous);
    }
  });

  it('gives hosts that share a public IP a subnet each, by their ports', async () => {
    const hosts = [attrsOf('203.0.113.7'), behindNat(9001), behindNat(9002)];
    const leases = await Promise.all(hosts.map((attrs) => acquire(attrs)));
    assert.equal(new Set(leases.map(keyOf)).size, 3);
    const second = leases[1];
    for (const [i, attrs] of hosts.entries()) {
      const again = await acquire(attrs);
      assert.deepEqual(again.subnet, leases[i]?.subnet);
    }
    assert.equal(
      await store().read(second === undefined ? '' : keyOf(second)),
      '{"PublicIP":"203.0.113.7","PublicIPv6":null,"BackendData":{"Port":9001}}',
    );
  });

  it('does not renew over another host of the same public IP', async () => {
    const lease = await acquire(behindNat(9001));
    const rival = '{"PublicIP":"203.0.113.7","PublicIPv6":null,"BackendData":{"Port":9002}}';
    await store().put(keyOf(lease), rival);
    await assert.rejects(manager().renewLease(lease, forever), LeaseError);
    assert.equal(await store().read(keyOf(lease)), rival);
  });
}
