import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { ConfigError, LeaseError } from '../../src/errors.js';
import { formatSubnet } from '../../src/lease/lease.js';
import type { OwnLease } from '../../src/lease/lease.js';
import { Cidr4 } from '../../src/ip.js';
import { formatSubnetKey } from '../../src/lease/subnet-key.js';
import { LocalManager } from '../../src/subnet/local-manager.js';
import type { LeaseRegistry } from '../../src/subnet/registry.js';
import { movingTests } from './moving-conformance.js';
import { attrsOf, captureLog, DAY_SECONDS, forever, stopWatches, subnetOf, WatchTable } from './store.js';

/** An empty store of its own for each test, and ways into it that bypass the registry. */
export interface TestStore {
  /** Another client of the same store; closed with it. */
  registry(): LeaseRegistry;
  putConfig(text: string): Promise<void>;
  /** Writes a raw entry that lives a day, or for good. */
  put(name: string, value: string, reservation?: boolean): Promise<void>;
  delete(name: string): Promise<void>;
  read(name: string): Promise<string>;
  close(): Promise<void>;
}

const CONFIG = '{"Network":"10.5.0.0/16"}';

/** What every registry has to do, and the acquire algorithm over it. */
export function conformance(name: string, open: () => Promise<TestStore>): void {
  describe(`${name}: registry`, () => {
    registryTests(withStore(open));
  });
  describe(`${name}: acquire and renew`, () => {
    managerTests(withStore(open));
  });
  describe(`${name}: moving hosts`, () => {
    movingTests(withStore(open));
  });
  describe(`${name}: watch`, () => {
    watchTests(withStore(open));
  });
}

function withStore(open: () => Promise<TestStore>): () => TestStore {
  let store: TestStore | null = null;
  beforeEach(async () => {
    captureLog();
    store = await open();
  });
  afterEach(async () => {
    await stopWatches();
    await store?.close();
    store = null;
  });
  return () => {
    assert.ok(store);
    return store;
  };
}

function registryTests(store: () => TestStore): void {
  it('asks for the config when there is none', async () => {
    const registry = store().registry();
    await assert.rejects(registry.readConfig(forever), ConfigError);
    await store().putConfig(CONFIG);
    assert.equal((await registry.readConfig(forever)).trim(), CONFIG);
  });

  it('lets exactly one of 20 create an entry', async () => {
    const racers = Array.from({ length: 20 }, (_, i) =>
      store()
        .registry()
        .create(subnetOf('10.5.1.0/24'), attrsOf(`192.168.0.${i + 1}`), DAY_SECONDS, forever),
    );
    const won = (await Promise.all(racers)).filter((lease) => lease !== null);
    assert.equal(won.length, 1);
    const stored = await store().registry().list(forever);
    assert.deepEqual(
      stored.map((lease) => [lease.attrs, lease.revision]),
      won.map((lease) => [lease.attrs, lease.revision]),
    );
  });

  it('updates exactly the version that it was told', async () => {
    const registry = store().registry();
    const subnet = subnetOf('10.5.1.0/24');
    const first = await registry.create(subnet, attrsOf('192.168.0.1'), DAY_SECONDS, forever);
    assert.ok(first);
    const racers = Array.from({ length: 10 }, (_, i) =>
      store()
        .registry()
        .update(subnet, attrsOf(`192.168.1.${i + 1}`), first.revision, DAY_SECONDS, forever),
    );
    const won = (await Promise.all(racers)).filter((lease) => lease !== null);
    assert.equal(won.length, 1);
    const stored = await registry.list(forever);
    assert.deepEqual(stored[0]?.attrs, won[0]?.attrs);
    assert.equal(stored[0]?.revision, won[0]?.revision);
    assert.notEqual(won[0]?.revision, first.revision);
  });

  it('loses no update among rivals', async () => {
    const subnet = subnetOf('10.5.1.0/24');
    const counting = (n: number) => attrsOf('192.168.0.1', { backendData: String(n) });
    await store().registry().create(subnet, counting(0), DAY_SECONDS, forever);
    const count = async (): Promise<number> => {
      const registry = store().registry();
      let counted = 0;
      for (let tries = 0; tries < 20; tries++) {
        const [current] = await registry.list(forever);
        assert.ok(current, 'the entry never goes missing');
        const next = counting(Number(current.attrs.backendData) + 1);
        if (await registry.update(subnet, next, current.revision, DAY_SECONDS, forever)) counted++;
      }
      return counted;
    };
    const counted = await Promise.all(Array.from({ length: 6 }, count));
    const [last] = await store().registry().list(forever);
    assert.equal(last?.attrs.backendData, String(counted.reduce((a, b) => a + b)));
  });

  it('removes exactly the version that it was told', async () => {
    const registry = store().registry();
    const subnet = subnetOf('10.5.1.0/24');
    const first = await registry.create(subnet, attrsOf('192.168.0.1'), DAY_SECONDS, forever);
    assert.ok(first);
    const second = await registry.update(subnet, first.attrs, first.revision, DAY_SECONDS, forever);
    assert.ok(second);
    assert.equal(await registry.remove(subnet, first.revision, forever), false);
    assert.equal((await registry.list(forever)).length, 1);
    assert.equal(await registry.remove(subnet, second.revision, forever), true);
    assert.equal(await registry.remove(subnet, second.revision, forever), false);
    assert.deepEqual(await registry.list(forever), []);
    assert.equal(await registry.update(subnet, first.attrs, second.revision, DAY_SECONDS, forever), null);
    assert.ok(await registry.create(subnet, attrsOf('192.168.0.2'), DAY_SECONDS, forever));
  });

  it('skips bad entries and says why', async () => {
    const registry = store().registry();
    await registry.create(subnetOf('10.5.1.0/24'), attrsOf('192.168.0.1'), DAY_SECONDS, forever);
    await store().put('not-a-subnet', '{"PublicIP":"1.2.3.4","PublicIPv6":null}');
    await store().put('10.5.2.0-24', '{"PublicIP":null}');
    await store().put('10.5.3.0-24', 'not JSON');
    const lines = captureLog();
    const leases = await registry.list(forever);
    assert.deepEqual(
      leases.map(({ subnet }) => formatSubnetKey(subnet)),
      ['10.5.1.0-24'],
    );
    for (const key of ['not-a-subnet', '10.5.2.0-24', '10.5.3.0-24']) {
      assert.equal(lines.filter((line) => line.startsWith('W') && line.includes(key)).length, 1, key);
    }
  });

  it('stores the bytes of every flanneld', async () => {
    const registry = store().registry();
    await registry.create(subnetOf('10.244.33.0/24'), attrsOf('192.168.77.1'), DAY_SECONDS, forever);
    assert.equal(await store().read('10.244.33.0-24'), '{"PublicIP":"192.168.77.1","PublicIPv6":null}');
  });

  it('gives up when its signal fires', async () => {
    const aborted = AbortSignal.abort(new Error('enough'));
    await assert.rejects(store().registry().list(aborted), /enough/);
    await assert.rejects(store().registry().readConfig(aborted), /enough/);
  });
}

function managerTests(store: () => TestStore): void {
  const manager = (previous: string | null = null, random?: () => number): LocalManager =>
    new LocalManager(store().registry(), 'Test', previous === null ? null : subnetOf(previous).v4, random);
  const acquire = (ip: string, previous: string | null = null): Promise<OwnLease> =>
    manager(previous).acquireLease(attrsOf(ip), forever);
  beforeEach(() => store().putConfig(CONFIG));

  it('describes itself', () => {
    assert.equal(manager().description, 'Test Local Manager with Previous Subnet: None');
    assert.equal(manager('10.5.7.0/24').description, 'Test Local Manager with Previous Subnet: 10.5.7.0/24');
  });

  it('gives 20 hosts 20 subnets at once', async () => {
    const leases = await Promise.all(Array.from({ length: 20 }, (_, i) => acquire(`192.168.0.${i + 1}`)));
    assert.equal(new Set(leases.map(({ subnet }) => formatSubnetKey(subnet))).size, 20);
    const range = new Cidr4(subnetOf('10.5.0.0/16').v4.ip, 16);
    for (const { subnet, expiration } of leases) {
      assert.ok(subnet.v4 !== null && range.contains(subnet.v4.ip) && subnet.v4.length === 24);
      const seconds = ((expiration ?? 0) - Date.now()) / 1000;
      assert.ok(seconds > DAY_SECONDS - 60 && seconds < DAY_SECONDS + 5, `${seconds} s`);
    }
  });

  it('tries again on a fresh list after a lost race', async () => {
    // All dice fall alike, so everybody always goes for the same subnet; somebody wins each round.
    const hosts = Array.from({ length: 5 }, (_, i) =>
      manager(null, () => 0).acquireLease(attrsOf(`192.168.0.${i + 1}`), forever),
    );
    const keys = (await Promise.all(hosts)).map(({ subnet }) => formatSubnetKey(subnet));
    assert.deepEqual(keys.sort(), [
      '10.5.1.0-24',
      '10.5.2.0-24',
      '10.5.3.0-24',
      '10.5.4.0-24',
      '10.5.5.0-24',
    ]);
  });

  it('finds its lease again by the public IP', async () => {
    const lines = captureLog();
    const first = await acquire('192.168.0.1');
    const again = await acquire('192.168.0.1', '10.5.200.0/24');
    assert.deepEqual(again.subnet, first.subnet);
    const text = `Found lease (ip: ${formatSubnet(first.subnet)} ipv6: ::/0) for current IP (192.168.0.1), reusing`;
    assert.ok(lines.some((line) => line.includes(text)));
  });

  it('deletes its own lease when the config does not allow it any more', async () => {
    const first = await acquire('192.168.0.1');
    await store().putConfig('{"Network":"10.6.0.0/16"}');
    const second = await acquire('192.168.0.1');
    assert.match(formatSubnet(second.subnet), /^10\.6\./);
    const keys = (await store().registry().list(forever)).map(({ subnet }) => formatSubnetKey(subnet));
    assert.deepEqual(keys, [formatSubnetKey(second.subnet)]);
    assert.notDeepEqual(first.subnet, second.subnet);
  });

  it('takes the previous subnet if it can be had', async () => {
    assert.equal(formatSubnetKey((await acquire('192.168.0.1', '10.5.77.0/24')).subnet), '10.5.77.0-24');
    const taken = await acquire('192.168.0.2', '10.5.77.0/24');
    assert.notEqual(formatSubnetKey(taken.subnet), '10.5.77.0-24');
    for (const unfit of ['10.9.1.0/24', '10.5.78.0/25', '10.5.0.0/24']) {
      await store().delete('10.5.78.0-24');
      const { subnet } = await acquire(`192.168.1.${unfit.length}`, unfit);
      assert.notEqual(subnet.v4?.toString(), unfit);
    }
  });

  it('keeps away from unreadable entries', async () => {
    await store().putConfig('{"Network":"10.5.0.0/24","SubnetLen":26}');
    await store().put('10.5.0.64-26', 'broken');
    await store().put('10.5.0.128-26', 'broken');
    const { subnet } = await acquire('192.168.0.1', '10.5.0.64/26');
    assert.equal(formatSubnetKey(subnet), '10.5.0.192-26');
    await assert.rejects(acquire('192.168.0.2'), LeaseError);
  });

  it('says so when all subnets are taken', async () => {
    await store().putConfig('{"Network":"10.5.0.0/24","SubnetLen":26}');
    for (const host of [1, 2, 3]) await acquire(`192.168.0.${host}`);
    await assert.rejects(acquire('192.168.0.4'), (error: Error) => {
      assert.ok(error instanceof LeaseError);
      assert.match(error.message, /^out of subnets\b.* 3 .*10\.5\.0\.64.*10\.5\.0\.192/);
      return true;
    });
  });

  it('keeps a reservation one, and keeps others off it', async () => {
    await store().put('10.5.9.0-24', '{"PublicIP":"192.168.0.9","PublicIPv6":null}', true);
    const other = await acquire('192.168.0.1', '10.5.9.0/24');
    assert.notEqual(formatSubnetKey(other.subnet), '10.5.9.0-24');
    for (let restarts = 0; restarts < 2; restarts++) {
      const lease = await acquire('192.168.0.9');
      assert.equal(formatSubnetKey(lease.subnet), '10.5.9.0-24');
      assert.equal(lease.expiration, null);
      const renewed = await manager().renewLease(lease, forever);
      assert.equal(renewed.expiration, null);
      assert.deepEqual(renewed.subnet, lease.subnet);
    }
    const stored = await store().registry().list(forever);
    assert.equal(stored.find(({ subnet }) => formatSubnetKey(subnet) === '10.5.9.0-24')?.reservation, true);
  });

  it('takes a subnet as a lease when the reservation of it was deleted', async () => {
    await store().put('10.5.9.0-24', '{"PublicIP":"192.168.0.9","PublicIPv6":null}', true);
    const reserved = await acquire('192.168.0.9');
    await store().delete('10.5.9.0-24');
    const lease = await manager().renewLease(reserved, forever);
    assert.deepEqual(lease.subnet, reserved.subnet);
    assert.notEqual(lease.expiration, null);
  });

  it('renews on top of its own version, and of its own only', async () => {
    const lease = await acquire('192.168.0.1');
    const renewed = await manager().renewLease(lease, forever);
    assert.notEqual(renewed.revision, lease.revision);
    assert.ok((renewed.expiration ?? 0) >= (lease.expiration ?? 0));
    // A second start of the same host has rewritten the entry.
    const again = await manager().renewLease(lease, forever);
    assert.deepEqual(again.subnet, lease.subnet);
    const key = formatSubnetKey(lease.subnet);
    await store().delete(key);
    const recreated = await manager().renewLease(again, forever);
    assert.equal(await store().read(key), '{"PublicIP":"192.168.0.1","PublicIPv6":null}');
    await store().put(key, '{"PublicIP":"192.168.0.66","PublicIPv6":null}');
    await assert.rejects(manager().renewLease(recreated, forever), (error: Error) => {
      assert.ok(error instanceof LeaseError);
      assert.match(error.message, /192\.168\.0\.66/);
      return true;
    });
    assert.equal(await store().read(key), '{"PublicIP":"192.168.0.66","PublicIPv6":null}');
  });
}

function watchTests(store: () => TestStore): void {
  it('begins with a snapshot and follows every change, the own lease included', async () => {
    const registry = store().registry();
    const first = await registry.create(
      subnetOf('10.5.1.0/24'),
      attrsOf('192.168.0.1'),
      DAY_SECONDS,
      forever,
    );
    assert.ok(first);
    const table = new WatchTable(registry);
    await table.becomes(['10.5.1.0-24 192.168.0.1']);
    assert.deepEqual(
      table.batches[0]?.map(({ type }) => type),
      ['snapshot'],
    );
    await store().put('10.5.2.0-24', '{"PublicIP":"192.168.0.2","PublicIPv6":null}');
    await table.becomes(['10.5.1.0-24 192.168.0.1', '10.5.2.0-24 192.168.0.2']);
    await registry.update(first.subnet, attrsOf('192.168.0.8'), first.revision, DAY_SECONDS, forever);
    await table.becomes(['10.5.1.0-24 192.168.0.8', '10.5.2.0-24 192.168.0.2']);
    await store().delete('10.5.2.0-24');
    await table.becomes(['10.5.1.0-24 192.168.0.8']);
    await table.stop();
    assert.equal(table.snapshots, 1);
  });

  it('delivers an empty snapshot of an empty store', async () => {
    const table = new WatchTable(store().registry());
    await store().put('10.5.2.0-24', '{"PublicIP":"192.168.0.2","PublicIPv6":null}');
    await table.becomes(['10.5.2.0-24 192.168.0.2']);
    await table.stop();
  });

  it('keeps the last good lease of an entry that turns bad, and ignores new bad ones', async () => {
    await store().put('10.5.1.0-24', '{"PublicIP":"192.168.0.1","PublicIPv6":null}');
    const table = new WatchTable(store().registry());
    await table.becomes(['10.5.1.0-24 192.168.0.1']);
    const lines = captureLog();
    await store().put('10.5.1.0-24', '{"PublicIP":');
    await store().put('nonsense', '{}');
    await store().put('10.5.2.0-24', '{"PublicIP":"192.168.0.2","PublicIPv6":null}');
    await table.becomes(['10.5.1.0-24 192.168.0.1', '10.5.2.0-24 192.168.0.2']);
    assert.ok(lines.some((line) => line.includes('10.5.1.0-24')));
    await store().put('10.5.1.0-24', '{"PublicIP":"192.168.0.3","PublicIPv6":null}');
    await table.becomes(['10.5.1.0-24 192.168.0.3', '10.5.2.0-24 192.168.0.2']);
    await store().put('10.5.1.0-24', '');
    await store().delete('10.5.1.0-24');
    await table.becomes(['10.5.2.0-24 192.168.0.2']);
    await table.stop();
  });

  it('serves several watches at once', async () => {
    const tables = Array.from({ length: 5 }, () => new WatchTable(store().registry()));
    await store().put('10.5.1.0-24', '{"PublicIP":"192.168.0.1","PublicIPv6":null}');
    for (const table of tables) await table.becomes(['10.5.1.0-24 192.168.0.1']);
    for (const table of tables) await table.stop();
  });
}
