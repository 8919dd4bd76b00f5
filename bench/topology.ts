/**
 * Hosts in network namespaces, joined by one Ethernet:
 *
 *      host1            host2            host3
 *   192.168.77.1     192.168.77.2     192.168.77.3
 *      eth0             eth0             eth0        MTU 1500 unless told otherwise
 *        |                |                |
 *      port1            port2            port3
 *        +-------------- underlay ---------+         a bridge with 192.168.77.254, in the lab's own namespace
 *
 * Only for use inside a lab (lab.ts), which takes care of the end.
 */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { promisify } from 'node:util';
import { dyingWithParent, inLab } from './lab.js';

const run = promisify(execFile);

/** The underlay's own address, reachable from every host. */
export const GATEWAY = '192.168.77.254';

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
  private constructor(readonly hosts: readonly Host[]) {}

  /** Makes `count` hosts whose external interfaces have the given MTU (bytes). */
  static async create(count: number, mtu = 1500): Promise<Topology> {
    if (!inLab()) throw new Error('hosts are made inside a lab only: start through runInLab()');
    const bridge = ['address', 'add', `${GATEWAY}/24`, 'dev', 'underlay'];
    await run('ip', ['link', 'add', 'underlay', 'mtu', String(mtu), 'type', 'bridge']);
    await run('ip', bridge);
    await run('ip', ['link', 'set', 'underlay', 'up']);
    const hosts: Host[] = [];
    for (let i = 1; i <= count; i++) {
      const host = new Host(`host${i}`, `192.168.77.${i}`);
      await connect(host, `port${i}`, mtu);
      hosts.push(host);
    }
    return new Topology(hosts);
  }

  /** Removes hosts and underlay, so that another topology can be made. Their processes must have ended. */
  async close(): Promise<void> {
    for (const [i, { name }] of this.hosts.entries()) {
      await run('ip', ['link', 'delete', `port${i + 1}`]);
      await run('ip', ['netns', 'delete', name]);
    }
    await run('ip', ['link', 'delete', 'underlay']);
  }
}

async function connect(host: Host, port: string, mtu: number): Promise<void> {
  await run('ip', ['netns', 'add', host.name]);
  const peer = ['peer', 'name', 'eth0', 'mtu', String(mtu), 'netns', host.name];
  await run('ip', ['link', 'add', port, 'mtu', String(mtu), 'type', 'veth', ...peer]);
  await run('ip', ['link', 'set', port, 'master', 'underlay', 'up']);
  await host.ip('link', 'set', 'lo', 'up');
  await host.ip('address', 'add', `${host.address}/24`, 'dev', 'eth0');
  await host.ip('link', 'set', 'eth0', 'up');
  await host.ip('route', 'add', 'default', 'via', GATEWAY);
}
