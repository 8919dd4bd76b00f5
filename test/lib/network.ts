/** Hosts with daemons for the tests: made by the first test that needs them, gone after the last. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Daemon } from '../../bench/daemon.js';
import type { Family } from '../../bench/daemon.js';
import type { Host } from '../../bench/topology.js';
import { Topology } from '../../bench/topology.js';
import { eventually } from './eventually.js';
import { Ping } from './ping.js';

/** A network config document. */
export type NetConf = Readonly<Record<string, unknown>>;

export const CONFIG: NetConf = { Network: '10.244.0.0/16', Backend: { Type: 'udp' } };

/** A topology with a directory store, and daemons that are ended before it goes. */
export class TestNetwork {
  private readonly daemons: Daemon[] = [];

  private constructor(
    readonly topology: Topology,
    /** A folder that goes with the network. */
    readonly folder: string,
  ) {}

  static async create(hosts: number, { mtu = 1500, config = CONFIG } = {}): Promise<TestNetwork> {
    const folder = await mkdtemp(join(tmpdir(), 'flannel-test-'));
    const network = new TestNetwork(await Topology.create(hosts, mtu), folder);
    await mkdir(join(network.store, 'subnets'), { recursive: true });
    await network.configure(config);
    return network;
  }

  /** Another network config, for daemons that are started from now on. */
  async configure(config: NetConf): Promise<void> {
    await writeFile(join(this.store, 'config'), JSON.stringify(config));
  }

  /** The directory store. */
  get store(): string {
    return join(this.folder, 'store');
  }

  /** The daemons that were started and not yet stopped by stopAll(). */
  get running(): readonly Daemon[] {
    return [...this.daemons];
  }

  host(number: number): Host {
    const host = this.topology.hosts[number - 1];
    if (host === undefined) throw new Error(`there is no host ${number}`);
    return host;
  }

  /** Starts a daemon on host `number`; over the directory store unless the flags name another. */
  start(number: number, ...flags: readonly string[]): Daemon {
    return this.startBehind([], number, ...flags);
  }

  /** The same behind a command that runs the one given behind it, such as setpriv. */
  startBehind(wrapper: readonly string[], number: number, ...flags: readonly string[]): Daemon {
    const host = this.host(number);
    const names = flags.some((flag) => /^--(?:etcd-|kube-subnet-mgr)/.test(flag));
    const store = names ? [] : [`--subnet-dir=${this.store}`];
    const daemon = Daemon.start(host, join(this.folder, `${host.name}.env`), [...store, ...flags], wrapper);
    this.daemons.push(daemon);
    return daemon;
  }

  /** Starts one daemon a host with these flags and waits until each knows all others. */
  async startAll(...flags: readonly string[]): Promise<Daemon[]> {
    const daemons = this.topology.hosts.map((_, i) => this.start(i + 1, ...flags));
    await Promise.all(daemons.map((daemon) => daemon.ready(daemons.length - 1)));
    return daemons;
  }

  /** Forgets all leases, as a store that was wiped. */
  async emptyStore(): Promise<void> {
    const subnets = join(this.store, 'subnets');
    for (const name of await readdir(subnets)) await rm(join(subnets, name), { recursive: true });
  }

  async stopAll(): Promise<void> {
    await Promise.all(this.daemons.splice(0).map((daemon) => daemon.stop()));
  }

  async close(): Promise<void> {
    await this.stopAll();
    await this.topology.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** What a daemon may leave behind on a host: TUN devices and routes through them. */
export async function leftovers(host: Host): Promise<string> {
  const links = await host.ip('-o', 'link', 'show', 'type', 'tun');
  const routes =
    (await host.ip('route', 'show', 'table', 'all')) + (await host.ip('-6', 'route', 'show', 'table', 'all'));
  return (
    links +
    routes
      .split('\n')
      .filter((line) => line.includes('flannel'))
      .join('\n')
  );
}

/** The daemon's last words: it must fail with `status` in a single line that matches. */
export async function failsWith(daemon: Daemon, status: number, line: RegExp): Promise<void> {
  await daemon.logged(line);
  await daemon.ended();
  assert.equal(daemon.exitCode, status, daemon.log);
  const last = daemon.log.trim().split('\n').at(-1) ?? '';
  assert.match(last, line);
  assert.equal(await leftovers(daemon.host), '');
}

/** Pings 50 times a second while `action` runs; resolves with how many were sent. @throws where one is lost. */
export async function undisturbed(
  from: Daemon,
  to: Daemon,
  action: () => Promise<void>,
  family: Family = 4,
): Promise<number> {
  const address = to.addressOf(family);
  // The one that was pinged may not know the other yet.
  await eventually(() => from.host.exec('ping', '-n', '-c', '1', '-W', '0.5', address));
  const ping = new Ping(from.host, address);
  try {
    await action();
  } catch (error) {
    await ping.end().catch(() => undefined);
    throw error;
  }
  return ping.end();
}

/** in - out - drops of one direction: 0 once everything that came in has its outcome. */
export function unaccounted(counters: ReadonlyMap<string, number>, direction: 'encap' | 'decap'): number {
  let balance = 0;
  for (const [name, count] of counters) {
    if (!name.startsWith(direction) || INFO.test(name)) continue;
    balance += name.endsWith('_packets_in') ? count : -count;
  }
  return balance;
}

const INFO = /_(?:bytes|calls|blocked|read_errors|receive_errors|icmp_\w+|probes_\w+)$/;

/** Why the socket's buffers cannot go beyond the system's limits here, or false where they can. */
export function noLargeBuffers(): string | false {
  return inInitialUserNamespace()
    ? false
    : 'large socket buffers need CAP_NET_ADMIN in the initial user namespace';
}

/** Why no device nodes can be made here, or false where they can. */
export function noDeviceNodes(): string | false {
  return inInitialUserNamespace() ? false : 'device nodes need CAP_MKNOD in the initial user namespace';
}

/** Whether users other than root are there, and root may do everything. */
export function inInitialUserNamespace(): boolean {
  return /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'));
}
