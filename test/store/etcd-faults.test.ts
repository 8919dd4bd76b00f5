import assert from 'node:assert/strict';
import { status } from '@grpc/grpc-js';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { ConfigError, StoreUnavailableError } from '../../src/errors.js';
import { EtcdClient } from '../../src/subnet/etcd/client.js';
import { DEFAULT_TIMINGS } from '../../src/subnet/etcd/member.js';
import type { EtcdTimings } from '../../src/subnet/etcd/member.js';
import { rpc } from '../../src/subnet/etcd/proto.js';
import { EtcdRegistry } from '../../src/subnet/etcd/registry.js';
import { Etcd } from '../lib/etcd.js';
import { eventually } from '../lib/eventually.js';
import {
  attrsOf,
  captureLog,
  DAY_SECONDS,
  forever,
  stopWatches,
  subnetOf,
  WatchTable,
} from '../lib/store.js';
import { freePort, TcpProxy } from '../lib/tcp-proxy.js';

const PREFIX = '/coreos.com/network';

let etcd: Etcd;
let proxy: TcpProxy;
let log: string[];
const closers: (() => unknown)[] = [];

before(async () => {
  etcd = await Etcd.start();
});
after(() => etcd.close());
beforeEach(async () => {
  log = captureLog();
  proxy = await TcpProxy.to(etcd.port);
});
afterEach(async () => {
  await stopWatches();
  for (const close of closers.splice(0).reverse()) await close();
  await proxy.close();
  await etcd.ctl('del', '--prefix', PREFIX);
});

function open(endpoints: string[], timings: Partial<EtcdTimings> = {}): EtcdRegistry {
  const registry = new EtcdRegistry(
    { endpoints, prefix: PREFIX, caFile: '', certFile: '', keyFile: '', username: '', password: '' },
    { ...DEFAULT_TIMINGS, ...timings },
  );
  closers.push(() => {
    registry.close();
  });
  return registry;
}

/** Puts hosts `from` … `to`; their rows in a table. */
async function putHosts(from: number, to = from): Promise<string[]> {
  const rows: string[] = [];
  for (let n = from; n <= to; n++) {
    await etcd.ctl(
      'put',
      `${PREFIX}/subnets/10.5.${n}.0-24`,
      `{"PublicIP":"192.168.0.${n}","PublicIPv6":null}`,
    );
    rows.push(`10.5.${n}.0-24 192.168.0.${n}`);
  }
  return rows;
}

function logged(text: string): number {
  return log.filter((line) => line.includes(text)).length;
}

describe('etcd: the watch', () => {
  it('goes on after kill -9 and restart', { timeout: 200_000 }, async () => {
    const rows = await putHosts(1, 3);
    const table = new WatchTable(open([etcd.endpoint]));
    await table.becomes(rows);
    await etcd.kill();
    await eventually(() => logged('lost etcd') === 1);
    await delay(1_000); // The outage itself, so that several attempts fail.
    assert.deepEqual(table.rows, rows, 'the last known leases stay');
    await etcd.restart();
    await table.becomes([...rows, ...(await putHosts(4))], 10_000);
    assert.equal(table.snapshots, 1, 'it went on where it was');
    await eventually(() => logged('etcd is back') === 1);
    assert.equal(logged('lost etcd'), 1);
  });

  it('reads everything anew after a compaction it slept through', async () => {
    const rows = await putHosts(1, 3);
    const table = new WatchTable(open([proxy.endpoint]));
    await table.becomes(rows);
    await proxy.cut();
    await etcd.ctl('del', `${PREFIX}/subnets/10.5.2.0-24`);
    const added = await putHosts(4, 5);
    await etcd.compact();
    await proxy.open();
    const now = [...rows.filter((row) => !row.startsWith('10.5.2.')), ...added];
    await table.becomes(now);
    assert.equal(table.snapshots, 2);
    await table.becomes([...now, ...(await putHosts(6))]);
    assert.equal(table.snapshots, 2);
  });

  it('misses nothing that happens while the connection is cut, however often', async () => {
    const table = new WatchTable(open([proxy.endpoint]));
    let rows: string[] = [];
    for (let n = 1; n <= 8; n++) {
      await proxy.cut();
      rows = [...rows, ...(await putHosts(n))];
      await proxy.open();
      if (n % 3 === 0) await table.becomes(rows);
    }
    await table.becomes(rows);
  });

  it('notices a store that was wiped', { timeout: 200_000 }, async () => {
    await putHosts(1, 9);
    await putHosts(1, 9);
    const table = new WatchTable(open([etcd.endpoint]));
    await eventually(() => table.rows.length === 9);
    await etcd.kill();
    await etcd.wipe();
    await etcd.restart();
    const rows = await putHosts(40);
    await table.becomes(rows);
    assert.equal(table.snapshots, 2);
    await table.becomes([...rows, ...(await putHosts(41))]);
    assert.equal(table.snapshots, 2);
  });

  it('notices a half-open connection by keepalive', { timeout: 200_000 }, async () => {
    const registry = open([proxy.endpoint], {
      keepaliveMs: 5_500,
      keepaliveTimeoutMs: 500,
      requestMs: 1_000,
    });
    const rows = await putHosts(1);
    const table = new WatchTable(registry);
    await table.becomes(rows);
    proxy.swallow();
    await eventually(() => logged('lost etcd') === 1, 15_000);
    await assert.rejects(registry.list(forever), StoreUnavailableError);
    await proxy.open();
    await table.becomes([...rows, ...(await putHosts(2))], 12_000);
  });

  it('notices it in less than 10 s by default', { timeout: 200_000 }, async () => {
    const table = new WatchTable(open([proxy.endpoint]));
    const rows = await putHosts(1);
    await table.becomes(rows);
    proxy.swallow();
    await proxy.open();
    await table.becomes([...rows, ...(await putHosts(2))], 10_000);
  });

  it('notices a store that has stopped talking', { timeout: 200_000 }, async () => {
    const table = new WatchTable(open([etcd.endpoint], { silenceMs: 500, requestMs: 5_000 }));
    const rows = await putHosts(1);
    await table.becomes(rows);
    await delay(3_000); // Quiet, but alive: asked several times, it keeps its watch.
    assert.equal(logged('lost etcd'), 0);
    etcd.pause();
    await eventually(() => logged('gone silent') === 1);
    etcd.resume();
    await table.becomes([...rows, ...(await putHosts(2))]);
  });

  it('does not run hot while nobody answers', { timeout: 200_000 }, async () => {
    const dead = await TcpProxy.to(await freePort());
    closers.push(() => dead.close());
    const table = new WatchTable(open([dead.endpoint]));
    const before = process.cpuUsage();
    await delay(3_000); // The measurement.
    const { user, system } = process.cpuUsage(before);
    assert.ok(user + system < 900_000, `${(user + system) / 1000} ms of CPU in 3 s`);
    assert.ok(dead.accepted < 20, `${dead.accepted} connections in 3 s`);
    assert.ok(log.length < 3, log.join(''));
    assert.equal(table.batches.length, 0);
  });

  it('ends with a signal that fires while the consumer is busy with the snapshot', async () => {
    const controller = new AbortController();
    for await (const events of open([etcd.endpoint]).watch(controller.signal)) {
      assert.equal(events[0]?.type, 'snapshot');
      controller.abort();
    }
  });

  it('ends at once with its signal, whatever the store is doing', async () => {
    const waiting = [new WatchTable(open([etcd.endpoint])), new WatchTable(open([proxy.endpoint]))];
    await eventually(() => waiting.every((table) => table.snapshots === 1));
    proxy.swallow();
    waiting.push(
      new WatchTable(open([proxy.endpoint])),
      new WatchTable(open([`http://127.0.0.1:${await freePort()}`])),
    );
    await delay(100); // Long enough for the last two to be in the middle of something.
    const started = Date.now();
    await Promise.all(waiting.map((table) => table.stop()));
    // As soon as that they have not waited for anything: a request takes 10 s to be given up, a connection 3 s.
    assert.ok(Date.now() - started < 2_500);
  });
});

describe('etcd: its health', { timeout: 200_000 }, () => {
  it('is told at any time, with what the table is of and since when', async () => {
    const registry = open([etcd.endpoint]);
    const { since } = registry.health;
    assert.deepEqual(
      { ...registry.health, forMs: 0 },
      {
        reachable: false,
        since,
        forMs: 0,
        lastError: null,
        tableRevision: null,
        hasTable: false,
        silentForMs: null,
      },
    );
    const rows = await putHosts(1);
    const table = new WatchTable(registry);
    await table.becomes(rows);
    rows.push(...(await putHosts(2)));
    await table.becomes(rows);
    const revision = String(await etcd.revision());
    await eventually(() => registry.health.tableRevision === revision);
    assert.ok(registry.health.reachable && registry.health.hasTable);
    const up = registry.health.since;

    await etcd.kill();
    await eventually(() => !registry.health.reachable);
    await eventually(() => registry.health.lastError?.includes('ECONNREFUSED') === true);
    assert.ok(registry.health.since >= up && registry.health.since <= Date.now());
    assert.equal(registry.health.tableRevision, revision, 'the table stays');
    await etcd.restart();
    await eventually(() => registry.health.reachable);
  });

  it('is known before there is a watch', async () => {
    const port = await freePort();
    const registry = open([`http://127.0.0.1:${port}`]);
    await assert.rejects(registry.readConfig(forever), StoreUnavailableError);
    assert.match(registry.health.lastError ?? '', /ECONNREFUSED/);
    const good = open([etcd.endpoint]);
    await assert.rejects(good.readConfig(forever), ConfigError);
    assert.ok(good.health.reachable, 'it has no config, but it answers');
  });
});

describe('etcd: requests', () => {
  it('go to the endpoint that answers', async () => {
    const refusing = `http://127.0.0.1:${await freePort()}`;
    const registry = open([refusing, proxy.endpoint, etcd.endpoint], { requestMs: 1_000 });
    const table = new WatchTable(registry);
    const rows = await putHosts(1);
    await table.becomes(rows);
    assert.equal((await registry.list(forever)).length, 1);
    await proxy.cut();
    assert.equal((await registry.list(forever)).length, 1);
    await table.becomes([...rows, ...(await putHosts(2))]);
  });

  it('leave one that swallows everything', async () => {
    proxy.swallow();
    const requestMs = 2_000;
    const registry = open([proxy.endpoint, etcd.endpoint], { requestMs });
    await putHosts(1);
    const started = Date.now();
    assert.equal((await registry.list(forever)).length, 1);
    assert.equal((await registry.list(forever)).length, 1);
    assert.ok(Date.now() - started < 2 * requestMs, 'the second one does not try it again');
  });

  it('do not wait long for a member that never completes a connection', async () => {
    proxy.swallow();
    const registry = open([proxy.endpoint, etcd.endpoint]);
    const started = performance.now();
    await registry.list(forever);
    assert.ok(performance.now() - started < DEFAULT_TIMINGS.requestMs);
  });

  it('take a new connection to the next member, for an old one may be as dead', async () => {
    const proxies = [proxy, await TcpProxy.to(etcd.port)];
    closers.push(() => proxies[1]?.close());
    const credentials = { caFile: '', certFile: '', keyFile: '', username: '', password: '' };
    const client = new EtcdClient(
      { endpoints: proxies.map(({ endpoint }) => endpoint), ...credentials },
      { ...DEFAULT_TIMINGS, requestMs: 3_000 },
    );
    closers.push(() => {
      client.close();
    });
    const read = () => client.unary(rpc.range, { key: Buffer.from(PREFIX) }, forever);
    await read();
    client.reportFailure(client.member(), status.UNAVAILABLE); // As after a watch that the member has canceled.
    await read();
    assert.deepEqual(
      proxies.map(({ accepted }) => accepted),
      [1, 1],
    );
    for (const each of proxies) {
      each.swallow();
      await each.open();
    }
    await read();
  });

  it('fail in words when nobody answers', async () => {
    const ports = [await freePort(), await freePort()];
    const registry = open(ports.map((port) => `http://127.0.0.1:${port}`));
    await assert.rejects(registry.list(forever), (error: Error) => {
      assert.ok(error instanceof StoreUnavailableError && error.retryable);
      for (const port of ports) assert.match(error.message, new RegExp(`${port}.*ECONNREFUSED`));
      return true;
    });
  });

  it('recognise their own write when its answer was lost', async () => {
    const registry = open([proxy.endpoint, etcd.endpoint], { requestMs: 3_000 });
    await registry.list(forever);
    const foreign = await etcd.leases();
    proxy.swallowAnswerTo('10.5.1.0-24');
    const lease = await registry.create(
      subnetOf('10.5.1.0/24'),
      attrsOf('192.168.0.1'),
      DAY_SECONDS,
      forever,
    );
    assert.ok(lease, 'not a lost race against itself');
    const [stored] = await registry.list(forever);
    assert.equal(stored?.revision, lease.revision);
    assert.equal((await etcd.leases()).length, foreign.length + 1);
  });

  it('read more than gRPC takes by default', { timeout: 200_000 }, async () => {
    const registry = open([etcd.endpoint]);
    // 60 × 100 kB of backend data are more than the 4 MiB a gRPC client accepts unless told otherwise.
    const backendData = JSON.stringify('x'.repeat(100_000));
    for (let n = 1; n <= 60; n++) {
      const attrs = attrsOf(`192.168.0.${n}`, { backendType: 'extension', backendData });
      await registry.create(subnetOf(`10.5.${n}.0/24`), attrs, DAY_SECONDS, forever);
    }
    assert.equal((await registry.list(forever)).length, 60);
  });
});
