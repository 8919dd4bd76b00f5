/** Whether packets of full size fit: interface, device, what containers were told, and the ways to peers. */
import { readFileSync } from 'node:fs';
import { formatIp } from '../address.js';
import type { Ip } from '../address.js';
import { OUTER_HEADERS } from '../backend/udp-place.js';
import { LEAST_MTU } from '../backend/udp-settings.js';
import { nativeErrorCode } from '../dataplane.js';
import { describeAddress } from '../iface/external-interface.js';
import { formatIp4 } from '../ip.js';
import { LEAST_IPV6_MTU } from '../ip6.js';
import { nextHopOf } from '../lease/identity.js';
import { withNetlink } from '../netlink/rtnetlink.js';
import type { Way } from '../netlink/rtnetlink.js';
import { error, note, ok, skipped, warning } from './finding.js';
import type { Finding } from './finding.js';
import type { Observed } from './observe.js';
import { peersOf } from './peers-of.js';

/** RFC 791: what every host accepts. Below it, too much of the traffic is headers. */
const USEFUL_MTU = 576;

export function checkInterface({ external, externalProblem, host }: Observed): Finding {
  const id = 'interface';
  if (external === null) {
    const why = 'flanneld does not know where other hosts are, and does not start';
    const remedy = 'give it an address and a default route, or choose one: --iface=NAME';
    return error(id, externalProblem ?? 'there is none', why, remedy);
  }
  const { name, address, publicIp } = external;
  const own = describeAddress(external);
  const link = host.links.find(({ index }) => index === external.linkIndex);
  if (link?.running === false) {
    const why = 'no packets from or to other hosts until it is up';
    return error(
      id,
      `${name} (${own}) is down`,
      why,
      `ip link set dev ${name} up, and look at its cable or carrier`,
    );
  }
  if (publicIp !== null && publicIp !== address) {
    const why = 'whatever translates it has to pass UDP from outside on to this host';
    return note(id, `${name} (${own}); other hosts are told ${formatIp4(publicIp)}`, why);
  }
  return ok(id, `${name} (${own})`);
}

export function checkMtu(observed: Observed): Finding[] {
  const id = 'mtu';
  const { external, owner, options, underlay, store } = observed;
  if (external === null) return [skipped(id, 'there is no interface to look at')];
  const { name, mtu } = external;
  const leaves = mtu - OUTER_HEADERS[underlay];
  const raise = `ip link set dev ${name} mtu 1500, where the network behind it carries that; or choose another with --iface`;
  if (leaves < LEAST_MTU) {
    const why = `flanneld needs at least ${LEAST_MTU + OUTER_HEADERS[underlay]} and does not start`;
    return [error(id, `${name} has an MTU of ${mtu}`, why, raise)];
  }
  const findings: Finding[] = [];
  const ipv6 = store.config?.enableIPv6 === true;
  const room = ipv6 ? Math.max(leaves, LEAST_IPV6_MTU) : leaves;
  if (leaves < room) {
    const why = `IPv6 needs ${LEAST_IPV6_MTU}: packets above ${leaves} are fragmented on their way`;
    findings.push(warning(id, `${name} has an MTU of ${mtu}`, why, raise));
  } else if (room < USEFUL_MTU) {
    const why = `the overlay has an MTU of ${room}, less than the ${USEFUL_MTU} that IPv4 hosts count on`;
    findings.push(warning(id, `${name} has an MTU of ${mtu}`, why, raise));
  }
  const fragments = 'larger packets leave in fragments, or not at all';
  if (owner.device !== null && owner.device.mtu > room) {
    const found = `${owner.device.name} has an MTU of ${owner.device.mtu}, but ${name} leaves room for ${room}`;
    findings.push(error(id, found, fragments, `ip link set dev ${owner.device.name} mtu ${room}`));
  }
  const told = toldMtu(options.subnetFile);
  if (told !== null && told > room) {
    const found = `${options.subnetFile} tells containers an MTU of ${told}, but ${name} leaves room for ${room}`;
    findings.push(error(id, found, fragments, 'restart flanneld, then the containers'));
  }
  return findings.length > 0 ? findings : [ok(id, `${name} has ${mtu}, the overlay ${room}`)];
}

/** What the kernel knows of the ways to other hosts without asking them. */
export function checkPaths(observed: Observed): Finding[] {
  const id = 'path';
  const { external, store, host, underlay } = observed;
  const isDown = host.links.some(({ index, running }) => index === external?.linkIndex && !running);
  if (external === null || store.leases === null || isDown)
    return [skipped(id, 'the interface is not there or down, or the peers are not known')];
  const peers = peersOf(observed);
  const hops = peers.flatMap(({ attrs }) => nextHopOf(attrs, underlay) ?? []);
  const findings = hops.flatMap((hop) => checkPath(id, hop, external.name, external.mtu));
  return findings.length > 0
    ? findings
    : [
        ok(
          id,
          `packets of full size fit on the way to each of ${peers.length} other host${peers.length === 1 ? '' : 's'}`,
        ),
      ];
}

function checkPath(id: string, hop: Ip, name: string, mtu: number): Finding[] {
  const peer = formatIp(hop);
  let way: Way<Ip>;
  try {
    way = withNetlink((netlink) =>
      typeof hop === 'number' ? netlink.lookUpRoute(hop) : netlink.lookUpRoute6(hop),
    );
  } catch (cause) {
    const code = nativeErrorCode(cause);
    if (code === undefined) throw cause;
    const why = 'packets for its containers cannot leave this host';
    return [
      error(
        id,
        `there is no route to the host ${peer} (${code})`,
        why,
        `ip ${typeof hop === 'number' ? '' : '-6 '}route add ${peer} via GATEWAY dev ${name}`,
      ),
    ];
  }
  if (way.pathMtu === null || way.pathMtu >= mtu) return [];
  return [
    warning(
      id,
      `the way to the host ${peer} carries ${way.pathMtu} bytes, but ${name} has an MTU of ${mtu}`,
      'packets of full size to its containers leave in fragments, or not at all',
      `ip link set dev ${name} mtu ${way.pathMtu}; or raise what is narrower on the way`,
    ),
  ];
}

function toldMtu(subnetFile: string): number | null {
  try {
    const [, mtu] = /^FLANNEL_MTU=(\d+)$/m.exec(readFileSync(subnetFile, 'utf8')) ?? [];
    return mtu === undefined ? null : Number(mtu);
  } catch {
    return null;
  }
}
