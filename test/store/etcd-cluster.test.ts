import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { DEFAULT_TIMINGS } from '../../src/subnet/etcd/member.js';
import { EtcdRegistry } from '../../src/subnet/etcd/registry.js';
import { LocalManager } from '../../src/subnet/local-manager.js';
import { EtcdCluster } from '../lib/etcd.js';
import type { Etcd } from '../lib/etcd.js';
import { eventually } from '../lib/eventually.js';
import { attrsOf, captureLog, forever, stopWatches, WatchTable } from '../lib/store.js';

const PREFIX = '/coreos.com/network';
// The defaults of etcd: no elections but those that the tests bring about.
const PATIENT = ['--heartbeat-interval=100', '--election-timeout=1000'];

describe('etcd: a cluster of three', { timeout: 400_000 }, () => {
  let cluster: EtcdCluster;
  let registry: EtcdRegistry;
  let log: string[];

  before(async () => {
    cluster = await EtcdCluster.start({ args: PATIENT });
    await cluster.ctl('put', `${PREFIX}/config`, '{"Network":"10.5.0.0/16"}');
  });
  after(() => cluster.close());
  beforeEach(() => {
    log = captureLog();
    registry = open(cluster.members);
  });
  afterEach(async () => {
    await stopWatches();
    registry.close();
    for (const member of cluster.members) if (!member.running) await member.restart();
    await cluster.ctl('del', '--prefix', `${PREFIX}/subnets/`);
  });

  function open(members: readonly Etcd[]): EtcdRegistry {
    return new EtcdRegistry(
      {
        endpoints: members.map(({ endpoint }) => endpoint),
        prefix: PREFIX,
        caFile: '',
        certFile: '',
        keyFile: '',
        username: '',
        password: '',
      },
      { ...DEFAULT_TIMINGS, requestMs: 5_000 },
    );
  }

  async function put(host: number): Promise<string> {
    const value = `{"PublicIP":"192.168.0.${host}","PublicIPv6":null}`;
    await eventually(() => cluster.ctl('put', `${PREFIX}/subnets/10.5.${host}.0-24`, value));
    return `10.5.${host}.0-24 192.168.0.${host}`;
  }

  it('has one leader, and another one when that is killed', async () => {
    const first = await cluster.leader();
    await first.kill();
    const second = await cluster.leader();
    assert.notEqual(second, first);
    await first.restart();
    await eventually(async () => {
      const leading = await Promise.all(cluster.members.map((member) => member.leads()));
      assert.equal(leading.filter(Boolean).length, 1);
    });
  });

  it('may lose any member, the leader included, without a watch missing anything', async () => {
    const rows = [await put(1)];
    const table = new WatchTable(registry);
    await table.becomes(rows);
    for (const [i, one] of [...cluster.members, 'the leader' as const].entries()) {
      const victim = one === 'the leader' ? await cluster.leader() : one;
      await victim.kill();
      rows.push(await put(10 + i));
      await table.becomes(rows);
      await victim.restart();
    }
    assert.equal(table.snapshots, 1, 'it went on where it was');
  });

  it('keeps leases through the loss of its leader', async () => {
    const manager = new LocalManager(registry, 'Etcd', null);
    const lease = await manager.acquireLease(attrsOf('192.168.0.1'), forever);
    const leader = await cluster.leader();
    await leader.kill();
    const renewed = await eventually(() => manager.renewLease(lease, forever));
    assert.deepEqual(renewed.subnet, lease.subnet);
    await leader.restart();
    const again = await manager.acquireLease(attrsOf('192.168.0.1'), forever);
    assert.deepEqual(again.subnet, lease.subnet);
  });

  it('without a majority tells so, keeps the table, and is back when a majority is', async () => {
    const rows = [await put(1)];
    const table = new WatchTable(registry);
    await table.becomes(rows);
    const [alive, ...others] = cluster.members;
    assert.ok(alive);
    for (const member of others) await member.kill();
    // The survivor's client port still answers, but it has no leader.
    await eventually(() => log.some((line) => line.includes('lost etcd')), 20_000);
    assert.deepEqual(table.rows, rows);
    for (const member of others) member.launch();
    await Promise.all(others.map((member) => member.healthy()));
    rows.push(await put(2));
    await table.becomes(rows, 20_000);
  });
});
