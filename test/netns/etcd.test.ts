/** Daemons over a real etcd: what they store, how they share out subnets, and what its failures do to traffic. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import type { Daemon } from '../../bench/daemon.js';
import { GATEWAY } from '../../bench/topology.js';
import { Etcd } from '../lib/etcd.js';
import { eventually } from '../lib/eventually.js';
import { CONFIG, TestNetwork, undisturbed } from '../lib/network.js';
import type { NetConf } from '../lib/network.js';
import { PeerTable, rowsFor, subnetEntry } from '../lib/peer-table.js';
import type { SubnetEntry } from '../lib/peer-table.js';

const PREFIX = '/coreos.com/network';
const SETTLED_MS = 10_000;

let network: TestNetwork;
let etcd: Etcd;
let flag: string;

async function setUp(hosts: number, config: NetConf = CONFIG): Promise<void> {
  network = await TestNetwork.create(hosts);
  etcd = await Etcd.start({ address: GATEWAY });
  flag = `--etcd-endpoints=${etcd.endpoint}`;
  await etcd.ctl('put', `${PREFIX}/config`, JSON.stringify(config));
}

async function tearDown(): Promise<void> {
  await network.stopAll();
  await etcd.close();
  await network.close();
}

async function tablesSettle(daemons: readonly Daemon[]): Promise<void> {
  const lines = (await etcd.ctl('get', '--prefix', `${PREFIX}/subnets/`)).trim().split('\n');
  const entries: SubnetEntry[] = [];
  for (let i = 0; i + 1 < lines.length; i += 2) {
    entries.push(subnetEntry(lines[i] ?? '', lines[i + 1] ?? ''));
  }
  for (const daemon of daemons) {
    const table = new PeerTable(daemon);
    await eventually(() => {
      assert.deepEqual(table.rows(), rowsFor(daemon.host.address, entries));
    }, SETTLED_MS);
  }
}

describe('three hosts', () => {
  before(() => setUp(3));
  after(tearDown);
  afterEach(() => network.stopAll());
  beforeEach(() => etcd.ctl('del', '--prefix', `${PREFIX}/subnets/`));

  test('store the bytes and the 24 h lease of stock flannel', async () => {
    // The previous subnet decides which one is taken.
    await writeFile(join(network.folder, 'host1.env'), 'FLANNEL_SUBNET=10.244.33.1/24\n');
    const daemon = network.start(1, flag);
    await daemon.logged(/flannel is ready/);
    const key = `${PREFIX}/subnets/10.244.33.0-24`;
    const json = await etcd.ctl('get', key, '-w', 'json');
    const [kv] = (JSON.parse(json) as { kvs: { key: string; value: string }[] }).kvs;
    assert.ok(kv);
    // Not from the parsed document: a lease id has more bits than a JavaScript number.
    const lease = BigInt(/"lease":(\d+)/.exec(json)?.[1] ?? 0);
    assert.equal(Buffer.from(kv.value, 'base64').toString(), '{"PublicIP":"192.168.77.1","PublicIPv6":null}');
    assert.equal(Buffer.from(kv.key, 'base64').toString(), key);
    const ttl = await etcd.ctl('lease', 'timetolive', lease.toString(16));
    const [, granted, remaining] = /granted with TTL\((\d+)s\), remaining\((\d+)s\)/.exec(ttl) ?? [];
    assert.equal(granted, '86400');
    assert.ok(Number(remaining) > 86_000);
  });

  test('keep their subnets over a restart', async () => {
    const first = network.start(1, flag);
    await first.logged(/flannel is ready/);
    const subnet = first.subnetEnv('FLANNEL_SUBNET');
    await first.stop();
    await writeFile(first.subnetFile, '');
    const second = network.start(1, flag);
    await second.logged(/flannel is ready/);
    assert.equal(second.subnetEnv('FLANNEL_SUBNET'), subnet);
  });

  test('go on while etcd is killed and restarted, and catch up', async () => {
    const daemons = await network.startAll(flag);
    const [a, b] = daemons;
    assert.ok(a && b);
    await undisturbed(a, b, async () => {
      await etcd.kill();
      await a.logged(/W\d{4} .*etcd/i, 20_000);
      await etcd.restart();
      await etcd.ctl(
        'put',
        `${PREFIX}/subnets/10.244.250.0-24`,
        '{"PublicIP":"192.168.77.50","PublicIPv6":null}',
      );
      await tablesSettle(daemons);
    });
  });

  test('catch up after a compaction that they missed', async () => {
    const daemons = await network.startAll(flag);
    const [a, b] = daemons;
    assert.ok(a && b);
    const gone = `${PREFIX}/subnets/10.244.251.0-24`;
    await etcd.ctl('put', gone, '{"PublicIP":"192.168.77.51","PublicIPv6":null}');
    await tablesSettle(daemons);
    await undisturbed(a, b, async () => {
      await etcd.kill();
      await a.host.ip('route', 'add', 'blackhole', GATEWAY);
      await etcd.restart();
      // All that the watch of host 1 will ask for is gone when it comes back.
      await etcd.ctl('del', gone);
      await etcd.ctl(
        'put',
        `${PREFIX}/subnets/10.244.252.0-24`,
        '{"PublicIP":"192.168.77.52","PublicIPv6":null}',
      );
      await etcd.compact();
      await a.host.ip('route', 'delete', 'blackhole', GATEWAY);
      await a.logged(/etcd has compacted what happened meanwhile/, 20_000);
      await tablesSettle(daemons);
    });
  });

  test('a changed public IP of a peer takes effect', async () => {
    const [a] = await network.startAll(flag);
    assert.ok(a);
    const key = `${PREFIX}/subnets/10.244.253.0-24`;
    for (const publicIp of ['192.168.77.53', '192.168.77.54']) {
      await etcd.ctl('put', key, `{"PublicIP":"${publicIp}","PublicIPv6":null}`);
      await a.logged(new RegExp(`Subnet added: 10\\.244\\.253\\.0/24 via ${publicIp}`));
    }
    await etcd.ctl('del', key);
    await a.logged(/Subnet removed: 10\.244\.253\.0\/24/);
  });
});

describe('twenty hosts', () => {
  const HOSTS = 20;
  // 31 subnets for 20 hosts: they get into each other's way.
  before(() => setUp(HOSTS, { Network: '10.244.0.0/16', SubnetLen: 21 }));
  after(tearDown);

  test('started at once get twenty different subnets, and none exits', async () => {
    const daemons = network.topology.hosts.map((_, i) => network.start(i + 1, flag));
    await Promise.all(daemons.map((daemon) => daemon.logged(/flannel is ready/, 60_000)));
    const subnets = new Set(daemons.map((daemon) => daemon.subnetEnv('FLANNEL_SUBNET')));
    assert.equal(subnets.size, HOSTS);
    await tablesSettle(daemons);
    assert.ok(daemons.every(({ exitCode }) => exitCode === null));
  });
});
