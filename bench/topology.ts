/**
 * Hosts in network namespaces, joined by one Ethernet:
 *
 *      host1            host2            host3
 *   192.168.77.1     192.168.77.2     192.168.77.3
 *     fd77::1          fd77::2          fd77::3      where the kernel has IPv6
 *      eth0             eth0             eth0        MTU 1500 unless told otherwise
 *        |                |                |
 *      port1            port2            port3
 *        +-------------- underlay ---------+         a bridge with 192.168.77.254 and fd77::fe, in the lab's own namespace
 *
 * Several independent sets of hosts can stand side by side (Topology.isolated): each has these addresses for itself,
 * but neither IPv6 nor a gateway, and two hosts of such a set are joined by one cable without a bridge.
 *
 * Only for use inside a lab (lab.ts), which takes care of the end.
 */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { LEAST_IPV6_MTU } from '../src/ip6.js';
import { dyingWithParent, inLab } from './lab.js';

const run = promisify(execFile);

/** The underlay's own address, reachable from every host. */
export const GATEWAY = '192.168.77.254';
/** The same of IPv6. */
export const GATEWAY6 = 'fd77::fe';

export interface Output {
  readonly stdout: string;
  readonly stderr: string;
}

/** One host. */
export class Host {
  constructor(
    readonly name: string,
    /** Underlay address. */
    readonly address: string,
    /** The same of IPv6, which not all hosts have. */
    readonly address6 = '',
  ) {}

  /** Runs a command to its end. @throws Error with its output when it fails. */
  async exec(command: string, ...args: readonly string[]): Promise<Output> {
    return run('nsenter', [`--net=/run/netns/${this.name}`, '--', command, ...args], { maxBuffer: 64 << 20 });
  }

  /** Starts a command that ends with this process at the latest. */
  spawn(command: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const entered = [`--net=/run/netns/${this.name}`, '--', ...dyingWithParent(command, args)];
    return spawn('nsenter', entered, options);
  }

  async ip(...args: readonly string[]): Promise<string> {
    return (await run('ip', ['-n', this.name, ...args])).stdout;
  }
}

export class Topology {
  private constructor(
    readonly hosts: readonly Host[],
    private readonly links: readonly string[],
  ) {}

  /** Makes `count` hosts whose external interfaces have the given MTU (bytes). */
  static async create(count: number, mtu = 1500): Promise<Topology> {
    if (!inLab()) throw new Error('hosts are made inside a lab only: start through runInLab()');
    await addBridge('underlay', mtu);
    await run('ip', ['address', 'add', `${GATEWAY}/24`, 'dev', 'underlay']);
    const ipv6 = mtu >= LEAST_IPV6_MTU && existsSync('/proc/sys/net/ipv6');
    if (ipv6) await run('ip', ['address', 'add', `${GATEWAY6}/64`, 'dev', 'underlay', 'nodad']);
    const hosts: Host[] = [];
    const links: string[] = [];
    for (let i = 1; i <= count; i++) {
      const host = await addHost(`host${i}`, i, ipv6);
      const port = `port${i}`;
      await run('ip', ['link', 'add', port, 'mtu', String(mtu), 'type', 'veth', ...cableEnd(host, mtu)]);
      await run('ip', ['link', 'set', port, 'master', 'underlay', 'up']);
      await setUp(host);
      await host.ip('route', 'add', 'default', 'via', GATEWAY);
      if (ipv6) {
        await host.ip('address', 'add', `${host.address6}/64`, 'dev', 'eth0', 'nodad');
        await host.ip('route', 'add', 'default', 'via', GATEWAY6);
      }
      hosts.push(host);
      links.push(port);
    }
    return new Topology(hosts, [...links, 'underlay']);
  }

  /**
   * Makes `count` hosts without a way out and without IPv6, so that nothing moves on their links that was not
   * asked for. `name` (4 characters at most) tells this set from others.
   */
  static async isolated(name: string, count: number, mtu = 1500): Promise<Topology> {
    if (!inLab()) throw new Error('hosts are made inside a lab only: start through runInLab()');
    const hosts: Host[] = [];
    for (let i = 1; i <= count; i++) {
      const host = await addHost(`${name}-host${i}`, i);
      const noIpv6 = 'for file in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > "$file"; done';
      await host.exec('sh', '-c', `[ ! -d /proc/sys/net/ipv6 ] || { ${noIpv6}; }`);
      hosts.push(host);
    }
    const [first, second] = hosts;
    const links: string[] = [];
    if (count === 2 && first !== undefined && second !== undefined) {
      await first.ip('link', 'add', 'eth0', 'mtu', String(mtu), 'type', 'veth', ...cableEnd(second, mtu));
    } else {
      const bridge = `${name}-underlay`;
      await addBridge(bridge, mtu);
      for (const [i, host] of hosts.entries()) {
        const port = `${name}-port${i + 1}`;
        await run('ip', ['link', 'add', port, 'mtu', String(mtu), 'type', 'veth', ...cableEnd(host, mtu)]);
        await run('ip', ['link', 'set', port, 'master', bridge, 'up']);
        links.push(port);
      }
      links.push(bridge);
    }
    for (const host of hosts) await setUp(host);
    return new Topology(hosts, links);
  }

  /** Removes hosts and underlay, so that another topology can be made. Their processes must have ended. */
  async close(): Promise<void> {
    for (const link of this.links) await run('ip', ['link', 'delete', link]);
    for (const { name } of this.hosts) await run('ip', ['netns', 'delete', name]);
  }
}

async function addBridge(name: string, mtu: number): Promise<void> {
  await run('ip', ['link', 'add', name, 'mtu', String(mtu), 'type', 'bridge']);
  await run('ip', ['link', 'set', name, 'up']);
}

async function addHost(name: string, number: number, ipv6 = false): Promise<Host> {
  await run('ip', ['netns', 'add', name]);
  return new Host(name, `192.168.77.${number}`, ipv6 ? `fd77::${number.toString(16)}` : '');
}

/** Words for `ip link add`: the far end of a cable is the host's eth0. */
function cableEnd(host: Host, mtu: number): string[] {
  return ['peer', 'name', 'eth0', 'mtu', String(mtu), 'netns', host.name];
}

async function setUp(host: Host): Promise<void> {
  await host.ip('link', 'set', 'lo', 'up');
  await host.ip('address', 'add', `${host.address}/24`, 'dev', 'eth0');
  await host.ip('link', 'set', 'eth0', 'up');
}
