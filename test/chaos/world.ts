/**
 * What the faults are for:
 *
 *      host1 ===== probe, both ways ===== host2          host3
 *     flanneld                           flanneld       flanneld   a daemon that may be restarted,
 *         \_________________ | ______________/______________/      and have its clock set
 *                     a proxy a member
 *                    etcd × 3, one cluster  <---- churn: leases of hosts that do not exist
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Daemon } from '../../bench/daemon.js';
import { GATEWAY } from '../../bench/topology.js';
import { EtcdGateway } from '../lib/etcd-gateway.js';
import { EtcdCluster } from '../lib/etcd.js';
import type { Etcd } from '../lib/etcd.js';
import { CONFIG, TestNetwork } from '../lib/network.js';
import { PeerTable, rowsFor, subnetEntry } from '../lib/peer-table.js';
import { Probe } from '../lib/probe.js';
import { TcpProxy } from '../lib/tcp-proxy.js';
import { within } from '../lib/within.js';

const PREFIX = '/coreos.com/network';
export const SUBNETS = `${PREFIX}/subnets/`;
/** The hosts' subnets are the first ones (acquireLease chooses among 100); these belong to the churn. */
const FIRST_FOREIGN = 160;
const LAST_FOREIGN = 239;
const HOSTS = 3;
/** Whose daemon is restarted. The probe does not pass it. */
const SPARE = 3;
const PROBE_RATE = 1000;
/** Fault to healthy. */
export const HEALED_MS = 10_000;
const ROOT = { name: 'root', password: 'of-all-evil' };
/** Who the daemons are to etcd. */
export const USER = { name: 'flannel', password: 'secret' };
export const ROLE = 'network';
// The defaults of etcd: what is measured is the daemons, not elections on a busy machine.
const PATIENT = ['--heartbeat-interval=100', '--election-timeout=1000', '--bcrypt-cost=4'];
const FAKETIME = [
  '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1',
  '/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1',
  '/usr/lib64/faketime/libfaketime.so.1',
];

/** A daemon and its table. */
interface Station {
  readonly daemon: Daemon;
  readonly table: PeerTable;
}

export class World {
  private readonly stations: Station[] = [];
  private readonly subnets = new Map<number, string>();
  private probe: Probe | null = null;
  private restarting = false;

  private constructor(
    private readonly network: TestNetwork,
    readonly cluster: EtcdCluster,
    /** The daemons' way to each member, in the order of the members. */
    readonly proxies: readonly TcpProxy[],
    /** The store as it is, past the proxies. */
    readonly store: EtcdGateway,
    private readonly faketime: string | null,
  ) {}

  static async create(): Promise<World> {
    const network = await TestNetwork.create(HOSTS);
    const cluster = await EtcdCluster.start({ address: GATEWAY, args: PATIENT });
    const proxies: TcpProxy[] = [];
    for (const { port } of cluster.members) proxies.push(await TcpProxy.to(port, GATEWAY, GATEWAY));
    const store = new EtcdGateway(cluster.endpoints, ROOT);
    const faketime = FAKETIME.find((file) => existsSync(file)) ?? null;
    const world = new World(network, cluster, proxies, store, faketime);
    try {
      await world.furnish();
      await world.setClock(0);
      for (let number = 1; number <= HOSTS; number++) world.startDaemon(number);
      await world.settled();
      for (let number = 1; number <= HOSTS; number++) world.subnets.set(number, world.subnetOf(number));
      const [a, b] = [world.daemon(1), world.daemon(2)].map((daemon) => ({
        host: daemon.host,
        address: daemon.overlayAddress,
      }));
      assert.ok(a && b);
      world.probe = await Probe.start(a, b, PROBE_RATE);
      return world;
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  get members(): readonly Etcd[] {
    return this.cluster.members;
  }

  /** Daemons by the number of their host. */
  daemon(number: number): Daemon {
    return this.station(number).daemon;
  }

  get daemons(): Daemon[] {
    return this.stations.map(({ daemon }) => daemon);
  }

  get canSetClock(): boolean {
    return this.faketime !== null;
  }

  /** Sets the clock of the spare daemon so many seconds away from the true time. */
  async setClock(seconds: number): Promise<void> {
    await writeFile(this.clockFile, `${seconds < 0 ? '' : '+'}${seconds}s`);
  }

  /** What a store needs: the config, and accounts for a day when authentication is switched on. */
  async furnish(): Promise<void> {
    const { store } = this;
    await store.put(`${PREFIX}/config`, JSON.stringify(CONFIG));
    for (const { name, password } of [ROOT, USER]) await store.call('auth/user/add', { name, password });
    await store.call('auth/role/add', { name: 'root' });
    await store.call('auth/role/add', { name: ROLE });
    const [key, end] = [PREFIX, `${PREFIX.slice(0, -1)}l`].map((text) =>
      Buffer.from(text).toString('base64'),
    );
    await store.call('auth/role/grant', { name: ROLE, perm: { permType: 'READWRITE', key, range_end: end } });
    await store.call('auth/user/grant', { user: ROOT.name, role: 'root' });
    await store.call('auth/user/grant', { user: USER.name, role: ROLE });
  }

  /** The key of a host that does not exist, of 80 there are. */
  static foreignKey(number: number): string {
    return `${SUBNETS}10.244.${FIRST_FOREIGN + (number % (LAST_FOREIGN - FIRST_FOREIGN + 1))}.0-24`;
  }

  /** The key of a daemon's own lease. */
  ownKey(number: number): string {
    return `${SUBNETS}${this.subnetOf(number).replace('/', '-')}`;
  }

  /** Ends the spare daemon and starts another in its place. */
  async restartSpare(): Promise<void> {
    const { daemon } = this.station(SPARE);
    this.restarting = true;
    assert.equal(await daemon.stop(), 0, daemon.log.slice(-2000));
    this.startDaemon(SPARE);
    this.restarting = false;
  }

  /** Throws what must not be at any time: a daemon that ended, two owners of a subnet, another subnet than before. */
  check(): void {
    const owners = new Map<string, number>();
    for (const [i, { daemon }] of this.stations.entries()) {
      const number = i + 1;
      if (number === SPARE && this.restarting) continue;
      assert.equal(
        daemon.exitCode,
        null,
        `the daemon on host ${number} has ended:\n${daemon.log.slice(-2000)}`,
      );
      if (!existsSync(daemon.subnetFile)) continue;
      const subnet = this.subnetOf(number);
      const other = owners.get(subnet);
      assert.equal(other, undefined, `hosts ${other ?? ''} and ${number} both have ${subnet}`);
      owners.set(subnet, number);
      const before = this.subnets.get(number) ?? subnet;
      assert.equal(subnet, before, `host ${number} has changed its subnet`);
    }
  }

  /** Throws where the store gives a subnet, or a part of it, to two hosts, or two subnets to a daemon's host. */
  async checkStore(): Promise<void> {
    const entries = (await this.store.list(SUBNETS)).map(({ key, value }) => subnetEntry(key, value));
    for (const { host } of this.daemons) {
      const own = entries.filter(({ publicIp }) => publicIp === host.address);
      assert.ok(own.length <= 1, `${host.name} holds ${own.map(({ subnet }) => subnet).join(' and ')}`);
    }
  }

  /**
   * Resolves once each daemon is ready, its lease is in the store and its table is the store's.
   * @throws Error with the difference when that takes longer than 10 s for which the daemons had a processor.
   */
  async settled(): Promise<void> {
    await within(HEALED_MS, this.daemons, async () => {
      this.check();
      const entries = (await this.store.list(SUBNETS)).map(({ key, value }) => subnetEntry(key, value));
      for (const { daemon, table } of this.stations) {
        const { name, address } = daemon.host;
        assert.match(daemon.log, /flannel is ready/, `${name} is not ready`);
        const own = entries.filter(({ publicIp }) => publicIp === address).map(({ subnet }) => subnet);
        assert.deepEqual(own, [daemon.overlaySubnet], `the leases of ${name} in the store`);
        assert.deepEqual(table.rows(), rowsFor(address, entries), `the table of ${name}`);
      }
    });
  }

  /** The probe between the first two hosts. */
  get traffic(): Probe {
    if (this.probe === null) throw new Error('the probe does not run yet');
    return this.probe;
  }

  async close(): Promise<void> {
    await this.probe?.kill();
    await this.network.stopAll();
    for (const proxy of this.proxies) await proxy.close();
    await this.cluster.close();
    await this.network.close();
  }

  private startDaemon(number: number): void {
    const flags = [
      `--etcd-endpoints=${this.proxies.map(({ endpoint }) => endpoint).join(',')}`,
      `--etcd-username=${USER.name}`,
      `--etcd-password=${USER.password}`,
      // What each attempt to reach the store has failed for.
      '-v=2',
    ];
    const wrapper = number === SPARE && this.faketime !== null ? this.fakeClock(this.faketime) : [];
    const daemon = this.network.startBehind(wrapper, number, ...flags);
    this.stations[number - 1] = { daemon, table: new PeerTable(daemon) };
  }

  /** Only the time of day is set: intervals go by CLOCK_MONOTONIC, which no one can set. */
  private fakeClock(library: string): string[] {
    return [
      'env',
      `LD_PRELOAD=${library}`,
      `FAKETIME_TIMESTAMP_FILE=${this.clockFile}`,
      'FAKETIME_CACHE_DURATION=1',
      'FAKETIME_DONT_FAKE_MONOTONIC=1',
      'NO_FAKE_STAT=1',
    ];
  }

  private get clockFile(): string {
    return join(this.network.folder, 'clock');
  }

  private station(number: number): Station {
    const station = this.stations[number - 1];
    if (station === undefined) throw new Error(`there is no daemon ${number}`);
    return station;
  }

  private subnetOf(number: number): string {
    return this.daemon(number).overlaySubnet;
  }
}
