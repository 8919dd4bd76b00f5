/** What the udp backend makes of the place that a host has: of its external interface and its lease. */
import type { Ip } from '../address.js';
import type { NetworkConfig } from '../config.js';
import { FlannelError } from '../errors.js';
import type { ExternalInterface } from '../iface/external-interface.js';
import { Cidr4 } from '../ip.js';
import { Cidr6, LEAST_IPV6_MTU } from '../ip6.js';
import { formatAnnouncement } from '../lease/identity.js';
import { formatSubnet } from '../lease/lease.js';
import type { LeaseAttrs, LeaseSubnet } from '../lease/lease.js';
import { log } from '../log.js';
import type { Underlay } from './backend.js';
import type { DeviceFamily } from './device.js';
import { LEAST_MTU } from './udp-settings.js';
import type { UdpSettings } from './udp-settings.js';

/** Bytes of IP and UDP around each packet. */
export const OUTER_HEADERS: Readonly<Record<Underlay, number>> = { ipv4: 28, ipv6: 48 };

/**
 * Where there is no IPv6, udp announces neither type nor data, except a port of the host's own and that it probes. That a
 * host carries IPv6 others have to be told: stock flannel's udp does not, and takes such packets for IPv4.
 */
export function attrsAt(
  { publicIp, publicIpV6 }: ExternalInterface,
  { port, networkPort, carries, dataplane }: UdpSettings,
): LeaseAttrs {
  return {
    publicIp: publicIp ?? 0,
    publicIpV6,
    backendType: carries.v6 ? 'udp' : '',
    backendData: formatAnnouncement({
      port: port === networkPort ? null : port,
      probesMtu: dataplane.probeMtu,
    }),
    backendV6Data: carries.v6 ? '{}' : null,
  };
}

/** What the sockets are bound to. @throws FlannelError */
export function bindAddressOf(
  { name, address, addressV6 }: ExternalInterface,
  { underlay }: UdpSettings,
): Ip {
  const bound = underlay === 'ipv4' ? address : addressV6;
  if (bound !== null) return bound;
  throw new FlannelError(
    `interface ${name} has no ${underlay === 'ipv4' ? 'IPv4' : 'IPv6'} address, over which this network's ` +
      'datagrams go: give it one, or choose another with --iface',
  );
}

/** A single address each, so that the kernel makes no routes beside the overlay's own. @throws FlannelError */
export function deviceFamilies({ v4, v6 }: LeaseSubnet, config: NetworkConfig): DeviceFamily[] {
  const { enableIPv4, enableIPv6, network, ipv6Network } = config;
  const families: DeviceFamily[] = [];
  if (enableIPv4 && v4 !== null) families.push({ address: new Cidr4(v4.ip, 32), network });
  if (enableIPv6 && v6 !== null && ipv6Network !== null) {
    families.push({ address: new Cidr6(v6.ip, 128), network: ipv6Network });
  }
  if (families.length === Number(enableIPv4) + Number(enableIPv6)) return families;
  throw new FlannelError(
    `the lease ${formatSubnet({ v4, v6 })} has no subnet of a family that the network config enables: ` +
      'give this host one, or set EnableIPv4 or EnableIPv6 to false',
  );
}

/** What the config says, else what the interface leaves. @throws FlannelError for one that carries too little. */
export function overlayMtu({ name, mtu }: ExternalInterface, settings: UdpSettings): number {
  const { mtu: configured, carries, underlay } = settings;
  const fits = mtu - OUTER_HEADERS[underlay];
  if (configured !== null) {
    if (configured > fits) {
      log.warning(
        `The MTU of ${configured} in the network config is more than the ${fits} that interface ${name} carries; ` +
          'packets above that are fragmented on their way',
      );
    }
    return configured;
  }
  if (fits < LEAST_MTU) {
    throw new FlannelError(
      `interface ${name} has an MTU of ${mtu}, but the udp backend needs at least ` +
        `${LEAST_MTU + OUTER_HEADERS[underlay]}: raise it (\`ip link set dev ${name} mtu 1500\`) or choose another with --iface`,
    );
  }
  if (!carries.v6 || fits >= LEAST_IPV6_MTU) return fits;
  log.warning(
    `IPv6 needs an MTU of ${LEAST_IPV6_MTU}, which is more than the ${fits} that interface ${name} carries; ` +
      'packets above that are fragmented on their way',
  );
  return LEAST_IPV6_MTU;
}
