/**
 * A router on the way whose next link becomes narrow:
 *
 *      host1 ------ underlay ------ host3 ------------ host2
 *   192.168.77.1   MTU 1500    .77.3    192.168.78.3   .78.2
 *      fd77::1               fd77::3        fd78::3   fd78::2
 *                                    1500, later 1400
 */
import assert from 'node:assert/strict';
import type { Daemon, Family } from '../../bench/daemon.js';
import { tcpStream } from '../../bench/probes.js';
import { eventually } from './eventually.js';
import type { NetConf } from './network.js';
import { CONFIG, TestNetwork } from './network.js';
import { statusOf } from './status-report.js';

/** What the link carries, once it is narrow. */
export const NARROW = 1400;

export class NarrowingPath {
  private constructor(readonly network: TestNetwork) {}

  static async create(config: NetConf = CONFIG): Promise<NarrowingPath> {
    const network = await TestNetwork.create(3, { config });
    const [b, router] = [network.host(2), network.host(3)];
    await b.ip('link', 'set', 'eth0', 'down');
    await router.ip('link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'eth1', 'netns', b.name);
    for (const [host, number] of [
      [router, 3],
      [b, 2],
    ] as const) {
      await host.ip('address', 'add', `192.168.78.${number}/24`, 'dev', 'eth1');
      await host.ip('address', 'add', `fd78::${number}/64`, 'dev', 'eth1', 'nodad');
      await host.ip('link', 'set', 'eth1', 'up');
    }
    await router.exec('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
    const path = new NarrowingPath(network);
    await path.routeThere();
    await path.routeBack();
    return path;
  }

  /** Starts a daemon at each end of the path. */
  async startBoth(...flags: readonly string[]): Promise<[Daemon, Daemon]> {
    const a = this.network.start(1, ...flags);
    const b = this.network.start(2, ...flags, '--iface=eth1');
    await Promise.all([a.ready(1), b.ready(1)]);
    return [a, b];
  }

  /** Sets what the link between the router and the second host carries, each way. */
  async setLinkMtu(mtu: number): Promise<void> {
    await this.network.host(3).ip('link', 'set', 'eth1', 'mtu', String(mtu));
    await this.routeBack('mtu', String(mtu));
  }

  /** The router says no word about packets that are too large for it. */
  async silenceRouter(): Promise<void> {
    const router = this.network.host(3);
    const output = (type: string) => ['-A', 'OUTPUT', '-p', ...type.split(' '), '-j', 'DROP'];
    await router.exec('iptables', ...output('icmp --icmp-type fragmentation-needed'));
    await router.exec('ip6tables', ...output('icmpv6 --icmpv6-type packet-too-big'));
  }

  /**
   * A TCP stream in the middle of which the link becomes narrow, and which goes on for so many seconds all in all.
   * @returns what had been carried before, at least, and all in all.
   * @throws Error where it comes to a stand, or arrives as something else.
   */
  async streamMeanwhile(
    a: Daemon,
    b: Daemon,
    { family = 4, seconds = 4, mtu = NARROW }: { family?: Family; seconds?: number; mtu?: number } = {},
  ): Promise<{ before: number; all: number }> {
    const address = b.addressOf(family);
    const stream = tcpStream(a.host, b.host, address, { seconds });
    const narrowed = async () => {
      const before = await eventually(() => bytesCarried(a, address));
      await this.setLinkMtu(mtu);
      return before;
    };
    const [{ received }, before] = await Promise.all([stream, narrowed()]);
    return { before, all: received.bytes };
  }

  /** The first host's routes to the second say how much the path carries. */
  async nameMtu(mtu: number): Promise<void> {
    await this.routeThere('mtu', String(mtu));
  }

  async close(): Promise<void> {
    await this.network.close();
  }

  private async routeThere(...properties: readonly string[]): Promise<void> {
    const [a, router] = [this.network.host(1), this.network.host(3)];
    for (const [network, via] of [
      ['192.168.78.0/24', router.address],
      ['fd78::/64', router.address6],
    ] as const) {
      await a.ip('route', 'replace', network, 'via', via, ...properties);
    }
  }

  private async routeBack(...properties: readonly string[]): Promise<void> {
    for (const router of ['192.168.78.3', 'fd78::3']) {
      await this.network.host(2).ip('route', 'replace', 'default', 'via', router, ...properties);
    }
  }
}

/** What a host's daemon says of the path to its only peer. */
export async function pathMtu(daemon: Daemon): Promise<number | null | undefined> {
  return (await statusOf(daemon)).peers[0]?.pathMtu;
}

/** The dataplane asks the kernel once a second what it has learned. */
export async function learns(daemon: Daemon, mtu: number): Promise<void> {
  await eventually(async () => {
    assert.equal(await pathMtu(daemon), mtu);
  });
}

/**
 * How many of three echoes in packets of `size` bytes are answered, and all that ping(8) says.
 * @param df `do`: they must not be cut
 */
export async function pingWith(
  from: Daemon,
  to: Daemon,
  { size, df, family = 4 }: { size: number; df: 'do' | 'dont'; family?: Family },
): Promise<[number, string]> {
  const headers = family === 4 ? 28 : 48; // IP and ICMP
  const words = `-n -c 3 -i 0.2 -W 1 -M ${df} -s ${size - headers} ${to.addressOf(family)}`;
  const { stdout } = await from.host.exec('sh', '-c', `ping ${words} 2>&1 || true`);
  return [Number(/(\d+) received/.exec(stdout)?.[1]), stdout];
}

/** The bytes that the only stream to an address has carried so far; false while it has none. */
async function bytesCarried({ host }: Daemon, to: string): Promise<number | false> {
  const { stdout } = await host.exec('ss', '-Htin', 'dst', to.includes(':') ? `[${to}]` : to);
  return Number(/bytes_acked:(\d+)/.exec(stdout)?.[1] ?? 0) || false;
}
