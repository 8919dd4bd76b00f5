import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { EtcdRegistry } from '../../src/subnet/etcd/registry.js';
import type { EtcdRegistryOptions } from '../../src/subnet/etcd/registry.js';
import { LocalManager } from '../../src/subnet/local-manager.js';
import { Etcd } from '../lib/etcd.js';
import { conformance } from '../lib/store-conformance.js';
import type { TestStore } from '../lib/store-conformance.js';
import { attrsOf, captureLog, DAY_SECONDS, forever, subnetOf, WatchTable } from '../lib/store.js';

const PREFIX = '/coreos.com/network';

let etcd: Etcd;
before(async () => {
  captureLog();
  etcd = await Etcd.start();
});
after(() => etcd.close());

function open(more: Partial<EtcdRegistryOptions> = {}): EtcdRegistry {
  return new EtcdRegistry({
    endpoints: [etcd.endpoint],
    prefix: PREFIX,
    caFile: '',
    certFile: '',
    keyFile: '',
    username: '',
    password: '',
    ...more,
  });
}

async function attach(lease: string, ...keys: string[]): Promise<void> {
  for (const key of keys) await etcd.ctl('put', `--lease=${lease}`, key, '{"PublicIP":"192.168.0.5"}');
}

async function grant(seconds: number): Promise<string> {
  return /lease (\w+) granted/.exec(await etcd.ctl('lease', 'grant', String(seconds)))?.[1] ?? '';
}

let stores = 0;
conformance('etcd', () => {
  const prefix = `/conformance/${++stores}`;
  const opened: EtcdRegistry[] = [];
  const store: TestStore = {
    registry: () => {
      const registry = open({ prefix });
      opened.push(registry);
      return registry;
    },
    putConfig: async (text) => {
      await etcd.ctl('put', `${prefix}/config`, text);
    },
    put: async (name, value, reservation = false) => {
      const lease = reservation ? '0' : await grant(DAY_SECONDS);
      await etcd.ctl('put', `--lease=${lease}`, `${prefix}/subnets/${name}`, value);
    },
    delete: async (name) => {
      await etcd.ctl('del', `${prefix}/subnets/${name}`);
    },
    read: async (name) =>
      (await etcd.ctl('get', '--print-value-only', `${prefix}/subnets/${name}`)).trimEnd(),
    close: async () => {
      for (const registry of opened) registry.close();
      await etcd.ctl('del', '--prefix', prefix);
    },
  };
  return Promise.resolve(store);
});

describe('etcd: what is stored', () => {
  it('is the key, the value and the TTL of every flanneld', async () => {
    const registry = open({ prefix: '//coreos.com//network/' });
    const foreign = await etcd.leases();
    const ownLeases = async (): Promise<string[]> =>
      (await etcd.leases()).filter((id) => !foreign.includes(id));
    await etcd.ctl('put', `${PREFIX}/config`, '{"Network":"10.244.0.0/16"}');
    const manager = new LocalManager(registry, 'Etcd', subnetOf('10.244.33.0/24').v4);
    const lease = await manager.acquireLease(attrsOf('192.168.77.1'), forever);
    const got = JSON.parse(await etcd.ctl('get', '--prefix', `${PREFIX}/subnets`, '-w', 'json')) as {
      kvs: { key: string; value: string; lease: number }[];
    };
    assert.deepEqual(
      got.kvs.map(({ key, value }) => [
        Buffer.from(key, 'base64').toString(),
        Buffer.from(value, 'base64').toString(),
      ]),
      [[`${PREFIX}/subnets/10.244.33.0-24`, '{"PublicIP":"192.168.77.1","PublicIPv6":null}']],
    );
    const leases = await ownLeases();
    assert.equal(leases.length, 1);
    const ttl = /granted with TTL\((\d+)s\), remaining\((\d+)s\)/.exec(
      await etcd.ctl('lease', 'timetolive', leases[0] ?? ''),
    );
    assert.equal(ttl?.[1], '86400');
    assert.ok(Number(ttl[2]) > 86_300);

    let current = lease;
    for (let renewals = 0; renewals < 5; renewals++) current = await manager.renewLease(current, forever);
    const after = await ownLeases();
    assert.equal(after.length, 1, 'renewals leave no etcd lease behind');
    assert.notEqual(after[0], leases[0]);
    const expired = await registry.update(lease.subnet, lease.attrs, lease.revision, DAY_SECONDS, forever);
    assert.equal(expired, null);
    assert.deepEqual(await ownLeases(), after, 'nor does a lost update');
    await registry.create(lease.subnet, lease.attrs, DAY_SECONDS, forever);
    assert.deepEqual(await ownLeases(), after, 'nor a lost create');
    assert.equal(await registry.remove(current.subnet, current.revision, forever), true);
    assert.deepEqual(await ownLeases(), []);
    registry.close();
  });

  it('is read from below subnets/ only', async () => {
    const registry = open({ prefix: '/below' });
    await etcd.ctl('put', '/below/subnetsXYZ', '{"PublicIP":"192.168.0.1"}');
    await etcd.ctl('put', '/below/subnets/x/10.5.1.0-24', '{"PublicIP":"192.168.0.1"}');
    await etcd.ctl('put', '/below/subnets/10.5.1.0-24', '{"PublicIP":"192.168.0.2"}');
    assert.equal((await registry.list(forever)).length, 1);
    registry.close();
  });

  it('spares an etcd lease that others have put their keys under', async () => {
    const registry = open({ prefix: '/shared' });
    const id = await grant(1000);
    await attach(id, '/shared/subnets/10.5.1.0-24', '/elsewhere');
    const [found] = await registry.list(forever);
    assert.ok(found);
    assert.ok(await registry.update(found.subnet, found.attrs, found.revision, DAY_SECONDS, forever));
    assert.match(await etcd.ctl('get', '/elsewhere'), /192/);
    await etcd.ctl('lease', 'revoke', id);
    assert.equal((await registry.list(forever)).length, 1);
    registry.close();
  });

  it('runs out by itself', async () => {
    const registry = open({ prefix: '/short' });
    const table = new WatchTable(registry);
    await registry.create(subnetOf('10.5.1.0/24'), attrsOf('192.168.0.1'), 5, forever);
    await table.becomes(['10.5.1.0-24 192.168.0.1']);
    await table.becomes([]);
    await table.stop();
    registry.close();
  });
});
