/** Containers in miniature: network namespaces behind a bridge that has a host's first overlay address. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import type { Daemon } from '../../bench/daemon.js';
import { Host } from '../../bench/topology.js';

const run = promisify(execFile);

/** One container on a host. It is a `Host`, whose addresses are on the overlay: that of IPv6 where the network has it. */
export class Pod extends Host {
  /** Makes it on the host of a daemon that has its subnet. A host has one of them at most. */
  static async create(daemon: Daemon): Promise<Pod> {
    const { host } = daemon;
    const gateway = daemon.subnetEnv('FLANNEL_SUBNET');
    const [, start = '', length = ''] = /^(.*\.)\d+\/(\d+)$/.exec(gateway) ?? [];
    const gateway6 = gateway6Of(daemon);
    const pod = new Pod(`${host.name}-pod`, `${start}2`, gateway6?.replace(/1\/\d+$/, '2'));
    await run('ip', ['netns', 'add', pod.name]);
    await host.exec('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
    await host.ip('link', 'add', 'cni0', 'type', 'bridge');
    await host.ip('address', 'add', gateway, 'dev', 'cni0');
    await host.ip('link', 'set', 'cni0', 'up');
    await host.ip('link', 'add', 'pod0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', pod.name);
    await host.ip('link', 'set', 'pod0', 'master', 'cni0', 'up');
    await pod.ip('link', 'set', 'lo', 'up');
    await pod.ip('link', 'set', 'eth0', 'mtu', daemon.subnetEnv('FLANNEL_MTU'), 'up');
    await pod.ip('address', 'add', `${pod.address}/${length}`, 'dev', 'eth0');
    await pod.ip('route', 'add', 'default', 'via', gateway.replace(/\/.*/, ''));
    if (gateway6 !== undefined) await pod.addIpv6(host, gateway6);
    return pod;
  }

  private async addIpv6(host: Host, gateway: string): Promise<void> {
    const [address = '', length = ''] = gateway.split('/');
    await host.exec('sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding');
    await host.ip('address', 'add', gateway, 'dev', 'cni0', 'nodad');
    await this.ip('address', 'add', `${this.address6}/${length}`, 'dev', 'eth0', 'nodad');
    await this.ip('route', 'add', 'default', 'via', address);
  }

  async close(): Promise<void> {
    await run('ip', ['netns', 'delete', this.name]);
  }
}

/** The first address of the host's IPv6 subnet, for the bridge; undefined where the network has none. */
function gateway6Of({ subnetFile }: Daemon): string | undefined {
  return /^FLANNEL_IPV6_SUBNET=(.*)$/m.exec(readFileSync(subnetFile, 'utf8'))?.[1];
}
