/** Containers in miniature: network namespaces behind a bridge that has a host's first overlay address. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Daemon } from '../../bench/daemon.js';
import { Host } from '../../bench/topology.js';

const run = promisify(execFile);

/** One container on a host. It is a `Host`, whose address is on the overlay. */
export class Pod extends Host {
  /** Makes it on the host of a daemon that has its subnet. A host has one of them at most. */
  static async create(daemon: Daemon): Promise<Pod> {
    const { host } = daemon;
    const gateway = daemon.subnetEnv('FLANNEL_SUBNET');
    const [, start = '', length = ''] = /^(.*\.)\d+\/(\d+)$/.exec(gateway) ?? [];
    const pod = new Pod(`${host.name}-pod`, `${start}2`);
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
    return pod;
  }

  async close(): Promise<void> {
    await run('ip', ['netns', 'delete', this.name]);
  }
}
