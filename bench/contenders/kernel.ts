/** Contenders without a forwarder process: the bare link, and the kernel's VXLAN. */
import type { Host } from '../topology.js';
import { endOf, forEachPair } from './contender.js';
import type { Contender, End, Overlay, Scenario, Site } from './contender.js';

const BARE_NET = 95;
const VXLAN_NET = 98;
const VXLAN_HEADERS = 50; // outer Ethernet, IPv4, UDP, VXLAN

function kernelOnly(ends: readonly End[]): Overlay {
  return { ends, forwarders: null, notes: [], failure: () => null, down: () => Promise.resolve() };
}

function hostAt(hosts: readonly Host[], index: number): Host {
  const host = hosts[index];
  if (host === undefined) throw new Error(`there is no host ${index + 1}`);
  return host;
}

function oneRouteOnly({ routes }: Scenario): Promise<string | null> {
  const reason = "it is the kernel's routing table that would be measured";
  return Promise.resolve(routes > 1 ? reason : null);
}

/** Every packet as it is on the underlay: the ceiling. */
export const bare: Contender = {
  name: 'bare',
  summary: 'the veth link without any overlay',
  unavailable: oneRouteOnly,
  async up({ hosts }: Site): Promise<Overlay> {
    const ends = hosts.map((host, i) => ({ address: host.address, subnet: endOf(BARE_NET, i).subnet }));
    await forEachPair(hosts.length, (from, to) =>
      hostAt(hosts, from).ip(
        'route',
        'add',
        endOf(BARE_NET, to).subnet,
        'via',
        hostAt(hosts, to).address,
        // A packet must not change its size on the way into one of the larger MTUs.
        'dev',
        'eth0',
      ),
    );
    return kernelOnly(ends);
  },
};

/** As flannel's vxlan backend sets it up: peers entered by hand, nothing learned. */
export const vxlan: Contender = {
  name: 'vxlan',
  summary: "the kernel's VXLAN, peers entered statically",
  unavailable: oneRouteOnly,
  async up({ hosts, scenario }: Site): Promise<Overlay> {
    const ends = hosts.map((_, i) => endOf(VXLAN_NET, i));
    const mac = (index: number) => `0e:00:00:00:00:${(index + 1).toString(16).padStart(2, '0')}`;
    const mtu = String(scenario.mtu - VXLAN_HEADERS);
    for (const [i, host] of hosts.entries()) {
      const type = ['type', 'vxlan', 'id', '1', 'dev', 'eth0', 'dstport', '8472', 'nolearning'];
      await host.ip('link', 'add', 'vxlan', 'address', mac(i), ...type, 'local', host.address);
      await host.ip('address', 'add', `${endOf(VXLAN_NET, i).address}/32`, 'dev', 'vxlan');
      await host.ip('link', 'set', 'vxlan', 'mtu', mtu, 'up');
    }
    await forEachPair(hosts.length, async (from, to) => {
      const host = hostAt(hosts, from);
      const { address, subnet } = endOf(VXLAN_NET, to);
      await host.exec(
        'bridge',
        ...['fdb', 'append', mac(to), 'dev', 'vxlan', 'dst', hostAt(hosts, to).address],
      );
      await host.ip('neigh', 'add', address, 'lladdr', mac(to), 'nud', 'permanent', 'dev', 'vxlan');
      await host.ip('route', 'add', subnet, 'via', address, 'dev', 'vxlan', 'onlink');
    });
    return kernelOnly(ends);
  },
};
