import assert from 'node:assert/strict';
import { beforeEach, it } from 'node:test';
import { LeaseError } from '../../src/errors.js';
import { overlap } from '../../src/lease/lease.js';
import type { LeaseAttrs, OwnLease } from '../../src/lease/lease.js';
import { formatSubnetKey } from '../../src/lease/subnet-key.js';
import { LocalManager } from '../../src/subnet/local-manager.js';
import type { TestStore } from './store-conformance.js';
import { attrsOf, bothOf, captureLog, DAY_SECONDS, forever, NO_PREVIOUS, WatchTable } from './store.js';

const DUAL = '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48"}';
const V6_ONLY = '{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48"}';

/** Networks of two families, and of IPv6 alone. */
export function familyTests(store: () => TestStore): void {
  const manager = (previous = '', random?: () => number): LocalManager =>
    new LocalManager(store().registry(), 'Test', previous === '' ? NO_PREVIOUS : bothOf(previous), random);
  const acquire = (attrs: LeaseAttrs, previous?: string, random?: () => number): Promise<OwnLease> =>
    manager(previous, random).acquireLease(attrs, forever);
  const keyOf = ({ subnet }: OwnLease) => formatSubnetKey(subnet);
  const keys = async () =>
    (await store().registry().list(forever)).map(({ subnet }) => formatSubnetKey(subnet)).sort();
  const dualAttrs = (n: number) =>
    attrsOf(`192.168.0.${n}`, { publicIpV6: `2001:db8::${n}`, backendType: 'udp', backendV6Data: '{}' });

  for (const [name, config, attrs] of [
    ['dual-stack', DUAL, dualAttrs],
    [
      'IPv6-only',
      V6_ONLY,
      (n: number) => attrsOf(`2001:db8::${n}`, { backendType: 'udp', backendV6Data: '{}' }),
    ],
  ] as const) {
    const v4 = name === 'dual-stack' ? '10.5.7.0/24 ' : '';
    const name4 = name === 'dual-stack' ? '10.5.7.0-24' : '0.0.0.0-0';

    it(`${name}: 20 hosts that start at once get subnets of which no two overlap`, async () => {
      await store().putConfig(config);
      const hosts = Array.from({ length: 20 }, (_, i) => attrs(i + 1));
      const leases = await Promise.all(hosts.map((each) => acquire(each)));
      for (const [i, { subnet }] of leases.entries()) {
        assert.equal(subnet.v4?.length ?? 0, name === 'dual-stack' ? 24 : 0);
        assert.equal(subnet.v6?.length, 64);
        assert.ok(!leases.slice(i + 1).some((other) => overlap(other.subnet, subnet)));
      }
      assert.deepEqual(await keys(), leases.map(keyOf).sort());
      const again = await Promise.all(hosts.map((each) => acquire(each)));
      assert.deepEqual(again.map(keyOf), leases.map(keyOf));
    });

    it(`${name}: hosts whose dice fall alike find a subnet each`, async () => {
      await store().putConfig(config);
      const hosts = Array.from({ length: 5 }, (_, i) => acquire(attrs(i + 1), '', () => 0));
      const leases = await Promise.all(hosts);
      assert.equal(new Set(leases.map(({ subnet }) => subnet.v6?.toString())).size, 5);
    });

    it(`${name}: the bytes in the store, and the log of a host that finds its lease again`, async () => {
      await store().putConfig(config);
      const first = await acquire(attrs(1), `${v4}fd00:0:0:7::/64`);
      assert.equal(keyOf(first), `${name4}&fd00:0:0:7::-64`);
      const publicIp = v4 === '' ? '0.0.0.0' : '192.168.0.1';
      assert.equal(
        await store().read(keyOf(first)),
        `{"PublicIP":"${publicIp}","PublicIPv6":"2001:db8::1","BackendType":"udp","BackendV6Data":{}}`,
      );
      const lines = captureLog();
      await acquire(attrs(1));
      const text =
        `Found lease (ip: ${v4.trim() || '0.0.0.0/0'} ipv6: fd00:0:0:7::/64) for current IP ` +
        `(${v4 === '' ? '2001:db8::1' : publicIp}), reusing`;
      assert.ok(
        lines.some((line) => line.includes(text)),
        lines.join('\n'),
      );
    });

    it(`${name}: keeps a reservation one, and keeps others off it`, async () => {
      await store().putConfig(config);
      const value = `{"PublicIP":"${v4 === '' ? '0.0.0.0' : '192.168.0.9'}","PublicIPv6":"2001:db8::9"}`;
      await store().put(`${name4}&fd00:0:0:7::-64`, value, true);
      const other = await acquire(attrs(1), `${v4}fd00:0:0:7::/64`);
      assert.ok(!overlap(other.subnet, bothOf(`${v4}fd00:0:0:7::/64`)));
      for (let restarts = 0; restarts < 2; restarts++) {
        const lease = await acquire(attrs(9));
        assert.equal(keyOf(lease), `${name4}&fd00:0:0:7::-64`);
        assert.equal(lease.expiration, null);
      }
    });

    it(`${name}: renews its entry, and not that of a host that took the subnet`, async () => {
      await store().putConfig(config);
      const lease = await acquire(attrs(1), `${v4}fd00:0:0:7::/64`);
      const table = new WatchTable(store().registry());
      const moved = await manager().renewLease(lease, forever, attrs(2));
      await table.becomes([`${keyOf(lease)} ${v4 === '' ? '2001:db8::2' : '192.168.0.2'}`]);
      await store().delete(keyOf(lease));
      // Another IPv4 subnet, if any, and a part of the IPv6 one.
      const rival = '{"PublicIP":"0.0.0.0","PublicIPv6":"2001:db8::66"}';
      await store().put('0.0.0.0-0&fd00:0:0:7:8000::-65', rival);
      await assert.rejects(manager().renewLease(moved, forever), (error: Error) => {
        assert.ok(error instanceof LeaseError);
        assert.match(error.message, /fd00:0:0:7::-64 now belongs to .* 2001:db8::66 \(lease 0\.0\.0\.0-0&/);
        return true;
      });
    });
  }

  beforeEach(() => store().putConfig(DUAL));

  it('gives a host of IPv4 alone a subnet of each family, and leaves it the one it had', async () => {
    await store().putConfig('{"Network":"10.5.0.0/16"}');
    const before = await acquire(attrsOf('192.168.0.1'));
    await store().putConfig(DUAL);
    const after = await acquire(dualAttrs(1));
    assert.equal(after.subnet.v4?.toString(), before.subnet.v4?.toString());
    assert.equal(after.subnet.v6?.length, 64);
    assert.deepEqual(await keys(), [keyOf(after)]);
    await store().putConfig('{"Network":"10.5.0.0/16"}');
    assert.equal(keyOf(await acquire(attrsOf('192.168.0.1'))), keyOf(before));
  });

  it('takes of its previous subnets what can be had', async () => {
    assert.equal(
      keyOf(await acquire(dualAttrs(1), '10.5.7.0/24 fd00:0:0:7::/64')),
      '10.5.7.0-24&fd00:0:0:7::-64',
    );
    const lines = captureLog();
    const second = await acquire(dualAttrs(2), '10.5.8.0/24 fd00:0:0:7::/64');
    assert.equal(second.subnet.v4?.toString(), '10.5.8.0/24');
    assert.notEqual(second.subnet.v6?.toString(), 'fd00:0:0:7::/64');
    assert.ok(
      lines.some((line) =>
        line.includes('fd00:0:0:7::/64 now belongs to the host with public IP 192.168.0.1'),
      ),
    );
    const third = await acquire(dualAttrs(3), '10.9.1.0/24 fd00:0:0:9::/64');
    assert.equal(third.subnet.v6?.toString(), 'fd00:0:0:9::/64');
  });

  it('creates nothing that overlaps an entry in either family, and leaves nothing behind', async () => {
    const registry = store().registry();
    const create = (subnet: string, n: number) =>
      registry.create(bothOf(subnet), dualAttrs(n), DAY_SECONDS, forever);
    assert.ok(await create('10.5.7.0/24 fd00:0:0:7::/64', 1));
    assert.equal(await create('10.5.7.0/24 fd00:0:0:8::/64', 2), null);
    assert.equal(await create('10.5.8.0/24 fd00:0:0:7::/64', 3), null);
    assert.equal(await create('10.5.8.0/24 fd00:0:0:6::/63', 3), null);
    assert.deepEqual(await keys(), ['10.5.7.0-24&fd00:0:0:7::-64']);
    assert.ok(await create('10.5.8.0/24 fd00:0:0:8::/64', 4));
  });

  it('lets no two of 20 rivals have one IPv6 subnet', async () => {
    const racers = Array.from({ length: 20 }, (_, i) =>
      store()
        .registry()
        .create(bothOf(`10.5.${i + 1}.0/24 fd00:0:0:7::/64`), dualAttrs(i + 1), DAY_SECONDS, forever),
    );
    const won = (await Promise.all(racers)).filter((lease) => lease !== null);
    assert.ok(won.length <= 1);
    assert.deepEqual(await keys(), won.map(keyOf));
  });
}
