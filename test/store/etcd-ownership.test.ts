import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { LeaseError } from '../../src/errors.js';
import { followLeases } from '../../src/lease/follow.js';
import { LeaseKeeper } from '../../src/lease/keeper.js';
import type { Lease, OwnLease } from '../../src/lease/lease.js';
import { formatSubnetKey } from '../../src/lease/subnet-key.js';
import { LeaseIds } from '../../src/subnet/etcd/lease-id.js';
import { DEFAULT_TIMINGS } from '../../src/subnet/etcd/member.js';
import type { EtcdTimings } from '../../src/subnet/etcd/member.js';
import { EtcdRegistry } from '../../src/subnet/etcd/registry.js';
import { LocalManager } from '../../src/subnet/local-manager.js';
import { Etcd } from '../lib/etcd.js';
import { eventually } from '../lib/eventually.js';
import { attrsOf, captureLog, DAY_SECONDS, forever, subnetOf } from '../lib/store.js';
import { TcpProxy } from '../lib/tcp-proxy.js';

const PREFIX = '/coreos.com/network';
const HOUR_MS = 3_600_000;

let etcd: Etcd;
let log: string[];
const closers: (() => unknown)[] = [];

before(async () => {
  etcd = await Etcd.start();
});
after(() => etcd.close());
beforeEach(async () => {
  log = captureLog();
  await etcd.ctl('put', `${PREFIX}/config`, '{"Network":"10.5.0.0/16"}');
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await etcd.ctl('del', '--prefix', `${PREFIX}/subnets/`);
  for (const id of await etcd.leases()) await etcd.ctl('lease', 'revoke', id);
});

const logged = (text: string): number => log.filter((line) => line.includes(text)).length;

function open(stack: number, endpoints = [etcd.endpoint], timings: Partial<EtcdTimings> = {}): EtcdRegistry {
  const registry = new EtcdRegistry(
    { endpoints, prefix: PREFIX, caFile: '', certFile: '', keyFile: '', username: '', password: '' },
    { ...DEFAULT_TIMINGS, ...timings },
    new LeaseIds(stack),
  );
  closers.push(() => {
    registry.close();
  });
  return registry;
}

/** What a daemon does about leases, without packets. */
class Host {
  peers: string[] = [];
  /** Rejects with what ends the daemon. */
  readonly ended: Promise<unknown>;
  private readonly stop = new AbortController();

  private constructor(
    readonly manager: LocalManager,
    readonly lease: OwnLease,
  ) {
    const keeper = new LeaseKeeper(manager, lease, HOUR_MS);
    const setPeers = (peers: readonly Lease[]): void => {
      this.peers = peers.map(({ subnet }) => formatSubnetKey(subnet));
    };
    const follow = followLeases(
      manager,
      lease,
      { setPeers, changePeers: () => false },
      keeper,
      this.stop.signal,
    );
    this.ended = Promise.all([keeper.run(this.stop.signal), follow]);
    this.ended.catch(() => undefined);
    closers.push(() => this.end());
  }

  /** @param stack stands for the machine, or container, that it runs on */
  static async start(stack: number, ip: string, endpoints?: string[]): Promise<Host> {
    const manager = new LocalManager(open(stack, endpoints), 'Etcd', null);
    return new Host(manager, await manager.acquireLease(attrsOf(ip), forever));
  }

  get key(): string {
    return formatSubnetKey(this.lease.subnet);
  }

  async end(): Promise<void> {
    this.stop.abort();
    await this.ended.catch(() => undefined);
  }
}

const keyPath = (host: Host): string => `${PREFIX}/subnets/${host.key}`;
const valueOf = (ip: string): string => `{"PublicIP":"${ip}","PublicIPv6":null}`;
const stored = async (host: Host): Promise<string> =>
  (await etcd.ctl('get', '--print-value-only', keyPath(host))).trimEnd();

/** No write for a second: long enough for hundreds, were they to fight. Answers to answers may come before it. */
async function storeFallsQuiet(): Promise<void> {
  await eventually(async () => {
    const revision = await etcd.revision();
    await delay(1_000);
    assert.equal(await etcd.revision(), revision, 'they do not fight');
  });
}

describe('two hosts with one public IP', () => {
  it('are both told so within seconds, and what is stored stays as every flanneld stores it', async () => {
    const first = await Host.start(1, '10.0.2.15');
    await delay(200); // Whatever the first has to say about itself, it has said.
    assert.equal(logged('another flanneld'), 0);
    const second = await Host.start(2, '10.0.2.15');
    assert.equal(second.key, first.key, 'the store cannot tell them apart');
    await eventually(() => logged('another flanneld') === 2);
    for (const line of log.filter((text) => text.includes('another flanneld'))) {
      for (const part of ['10.0.2.15', first.key, '--public-ip']) assert.ok(line.includes(part), part);
    }
    await storeFallsQuiet();
    assert.equal(await stored(first), valueOf('10.0.2.15'));
    assert.equal((await etcd.leases()).length, 1);
  });

  it('are told apart from a process that takes over on the same host', async () => {
    const former = await Host.start(1, '192.168.0.1');
    const successor = await Host.start(1, '192.168.0.1');
    assert.equal(successor.key, former.key);
    const other = await Host.start(3, '192.168.0.3');
    await eventually(() => former.peers.length === 1 && successor.peers.length === 1);
    assert.deepEqual(former.peers, [other.key]);
    assert.equal(logged('another flanneld'), 0);
  });

  it('are recognised when the other is a stock flanneld', async () => {
    const host = await Host.start(1, '10.0.2.15');
    // Stock takes the lease for its own: a grant under an id of etcd's choice, and a put without a condition.
    const id = /lease (\w+) granted/.exec(await etcd.ctl('lease', 'grant', '86400'))?.[1] ?? '';
    await etcd.ctl('put', `--lease=${id}`, keyPath(host), valueOf('10.0.2.15'));
    await eventually(() => logged('another flanneld') === 1);
  });

  it('are recognised when each has a subnet of its own', async () => {
    const host = await Host.start(1, '10.0.2.15');
    await etcd.ctl('put', `${PREFIX}/subnets/10.5.0.0-24`, valueOf('10.0.2.15'));
    await eventually(() => logged("10.5.0.0-24 names this host's public IP 10.0.2.15 as well") === 1);
    assert.deepEqual(host.peers, ['10.5.0.0-24'], 'as stock flannel routes it');
  });

  it('do not storm the store, however many they are', { timeout: 200_000 }, async () => {
    const hosts: Host[] = [];
    for (let stack = 1; stack <= 12; stack++) hosts.push(await Host.start(stack, '10.0.2.15'));
    await eventually(() => logged('another flanneld') === 12);
    await storeFallsQuiet();
    assert.equal((await etcd.leases()).length, 1);
    const running = Promise.resolve('running');
    for (const host of hosts) assert.equal(await Promise.race([host.ended, running]), 'running');
  });
});

describe('an own lease', () => {
  it('that was deleted is claimed again', async () => {
    const host = await Host.start(1, '192.168.0.1');
    for (let i = 1; i <= 3; i++) {
      await etcd.ctl('del', keyPath(host));
      await eventually(async () => (await stored(host)) === valueOf('192.168.0.1'));
    }
    assert.equal(logged('has been revoked; claiming it again'), 3);
    assert.equal((await etcd.leases()).length, 1);
  });

  it('that was revoked is claimed again', async () => {
    const host = await Host.start(1, '192.168.0.1');
    const [id] = await etcd.leases();
    await etcd.ctl('lease', 'revoke', id ?? '');
    await eventually(async () => (await stored(host)) === valueOf('192.168.0.1'));
    assert.equal((await etcd.leases()).length, 1);
  });

  it('that ran out during an outage is claimed again', async () => {
    const proxy = await TcpProxy.to(etcd.port);
    closers.push(() => proxy.close());
    const host = await Host.start(1, '192.168.0.1', [proxy.endpoint]);
    await proxy.cut();
    await etcd.ctl('lease', 'revoke', (await etcd.leases())[0] ?? '');
    assert.equal(await stored(host), '');
    await proxy.open();
    await eventually(async () => (await stored(host)) === valueOf('192.168.0.1'));
  });

  it('that another host took during an outage ends the daemon, with the name of that host', async () => {
    const proxy = await TcpProxy.to(etcd.port);
    closers.push(() => proxy.close());
    const host = await Host.start(1, '192.168.0.1', [proxy.endpoint]);
    await proxy.cut();
    await etcd.ctl('lease', 'revoke', (await etcd.leases())[0] ?? '');
    const thief = open(2);
    assert.ok(await thief.create(host.lease.subnet, attrsOf('192.168.0.66'), DAY_SECONDS, forever));
    await etcd.compact(); // So that it is a snapshot that tells.
    await proxy.open();
    await assert.rejects(host.ended, (error: Error) => {
      assert.ok(error instanceof LeaseError && !error.retryable);
      assert.match(error.message, new RegExp(`${host.key} now belongs to .* 192\\.168\\.0\\.66; start `));
      return true;
    });
    assert.equal(await stored(host), valueOf('192.168.0.66'));
    assert.equal((await etcd.leases()).length, 1);
  });

  it('of which a part was taken ends the daemon as well', async () => {
    const host = await Host.start(1, '192.168.0.1');
    const half = `${PREFIX}/subnets/${formatSubnetKey(host.lease.subnet).replace('-24', '-25')}`;
    await etcd.ctl('put', half, valueOf('192.168.0.66'));
    await etcd.ctl('del', keyPath(host));
    await assert.rejects(
      host.ended,
      /-24 now belongs to .*192\.168\.0\.66 \(lease 10\.5\.\d+\.0-25\); start /,
    );
  });

  it('that is a reservation stays one over restarts and rewritings', async () => {
    await etcd.ctl('put', `${PREFIX}/subnets/10.5.9.0-24`, valueOf('192.168.0.9'));
    for (let restarts = 0; restarts < 3; restarts++) {
      const host = await Host.start(1, '192.168.0.9');
      assert.equal(host.key, '10.5.9.0-24');
      await host.end();
    }
    assert.deepEqual(await etcd.leases(), []);
  });
});

describe('a store that was wiped and filled again', { timeout: 200_000 }, () => {
  it('keeps the entry of another host although it has the same revision', async () => {
    const own = await Etcd.start();
    closers.push(() => own.close());
    const manager = new LocalManager(open(1, [own.endpoint]), 'Etcd', subnetOf('10.5.1.0/24').v4);
    await own.ctl('put', `${PREFIX}/config`, '{"Network":"10.5.0.0/16"}');
    const lease = await manager.acquireLease(attrsOf('192.168.0.1'), forever);
    const revision = await own.revision();
    await own.kill();
    await own.wipe();
    await own.restart();
    await own.ctl('put', `${PREFIX}/config`, '{"Network":"10.5.0.0/16"}');
    await own.ctl('put', `${PREFIX}/subnets/10.5.1.0-24`, valueOf('192.168.0.66'));
    assert.equal(await own.revision(), revision, 'else this shows nothing');
    await assert.rejects(manager.renewLease(lease, forever), /192\.168\.0\.66/);
    assert.match(await own.ctl('get', `${PREFIX}/subnets/10.5.1.0-24`), /192\.168\.0\.66/);
  });
});

describe('etcd leases', { timeout: 400_000 }, () => {
  it('are not left behind by any operation', async () => {
    const [a, b] = [open(1), open(2)];
    const subnet = subnetOf('10.5.1.0/24');
    for (let round = 0; round < 50; round++) {
      const lease = await a.create(subnet, attrsOf('192.168.0.1'), DAY_SECONDS, forever);
      assert.ok(lease);
      assert.equal(await b.create(subnet, attrsOf('192.168.0.2'), DAY_SECONDS, forever), null);
      const renewed = await a.update(subnet, lease.attrs, lease.revision, DAY_SECONDS, forever);
      assert.ok(renewed);
      assert.equal(await a.update(subnet, lease.attrs, lease.revision, DAY_SECONDS, forever), null);
      assert.ok(await a.remove(subnet, renewed.revision, forever));
    }
    assert.deepEqual(await etcd.leases(), []);
  });

  it('are not left behind by connections that break anywhere, once the store is back', async () => {
    const proxy = await TcpProxy.to(etcd.port);
    closers.push(() => proxy.close());
    const manager = new LocalManager(open(1, [proxy.endpoint], { requestMs: 1_000 }), 'Etcd', null);
    let lease = await manager.acquireLease(attrsOf('192.168.0.1'), forever);
    const proper = (await etcd.leases()).length;
    assert.equal(proper, 1);
    // A renewal is four requests of a millisecond or some: these moments fall before, into and after each of them.
    for (let ms = 0; ms < 24; ms++) {
      if (ms % 8 === 7) proxy.swallowAnswerTo(formatSubnetKey(lease.subnet));
      const renewal = manager.renewLease(lease, forever).catch(() => null);
      await delay(ms / 2);
      if (ms % 2 === 0) await proxy.cut();
      else if (ms % 8 !== 7) proxy.swallow();
      lease = (await renewal) ?? lease;
      await proxy.open();
      lease = await eventually(() => manager.renewLease(lease, forever));
    }
    await eventually(async () => (await etcd.leases()).length === 1, 60_000);
    assert.match(await etcd.ctl('get', '--prefix', `${PREFIX}/subnets/`), /192\.168\.0\.1/);
  });
});
