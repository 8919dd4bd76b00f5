import { parseIp4 } from '../../src/ip.js';
import type { InterfaceChoice } from '../../src/iface/external-interface.js';
import type { Reach, SurveyedHost } from '../../src/iface/survey.js';
import type { RouteEntry } from '../../src/netlink/rtnetlink.js';

/** No flag about the interface. */
export const NO_CHOICE: InterfaceChoice = {
  iface: [],
  ifaceRegex: [],
  ifaceCanReach: '',
  publicIp: '',
  publicIpv6: '',
};

/** Interfaces with their IPv4 addresses, in the kernel's order; `default` is where the default route leads. */
export interface HostSketch {
  readonly default?: string | null;
  /** Bytes, where not 1500. */
  readonly mtu?: Readonly<Record<string, number>>;
  /** IPv6 addresses of interfaces; the default route leads to the same one as that of IPv4. */
  readonly v6?: Readonly<Record<string, readonly string[]>>;
  /** Where the way to --iface-can-reach leads, and the address it starts at; null for no way. */
  readonly reach?: readonly [string, string] | null;
  /** Interfaces that are down. */
  readonly down?: readonly string[];
  readonly [iface: string]: unknown;
}

const PERMANENT = 0x80;

/** What the kernel would say about such a host. Equal names get equal indexes. */
export function hostNetwork(sketch: HostSketch): SurveyedHost {
  const names = Object.keys(sketch).filter(
    (name) => !['default', 'mtu', 'down', 'v6', 'reach'].includes(name),
  );
  const indexOf = (name: string) => Buffer.from(name).reduce((sum, byte) => sum * 31 + byte, 0);
  return {
    links: names.map((name) => ({
      index: indexOf(name),
      name,
      mtu: sketch.mtu?.[name] ?? 1500,
      up: !sketch.down?.includes(name),
      running: !sketch.down?.includes(name),
      gsoMaxSize: 65536,
      queueLength: 500,
      tun: null,
      ipv6: { disabled: false, linkLocal: true },
    })),
    addresses: names.flatMap((name) =>
      (sketch[name] as string[]).map((ip) => ({
        linkIndex: indexOf(name),
        ip: parseIp4(ip) ?? 0,
        length: 24,
        scope: 0,
        flags: PERMANENT,
      })),
    ),
    routes: toDefault(sketch.default, 0, indexOf),
    v6: {
      addresses: Object.entries(sketch.v6 ?? {}).flatMap(([name, ips]) =>
        ips.map((ip) => ({ linkIndex: indexOf(name), ip, length: 64, scope: 0, flags: PERMANENT })),
      ),
      routes: toDefault(sketch.default, '::', indexOf),
    },
    reach: sketch.reach ? wayTo(sketch.reach, indexOf) : { refusal: 'the kernel has no route to it' },
  };
}

function toDefault<Ip>(
  name: string | null | undefined,
  destination: Ip,
  indexOf: (name: string) => number,
): RouteEntry<Ip>[] {
  return typeof name === 'string' ? [{ length: 0, destination, linkIndex: indexOf(name) }] : [];
}

function wayTo([name, source]: readonly [string, string], indexOf: (name: string) => number): Reach {
  return { linkIndex: indexOf(name), source: { v4: parseIp4(source) ?? null, v6: null } };
}
