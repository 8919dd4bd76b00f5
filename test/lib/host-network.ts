import { parseIp4 } from '../../src/ip.js';
import type { HostNetwork } from '../../src/netlink/rtnetlink.js';

/** Interfaces with their addresses, in the kernel's order; `default` is where the default route leads. */
export interface HostSketch {
  readonly default?: string | null;
  /** Bytes, where not 1500. */
  readonly mtu?: Readonly<Record<string, number>>;
  /** Interfaces that are down. */
  readonly down?: readonly string[];
  readonly [iface: string]: unknown;
}

const PERMANENT = 0x80;

/** What the kernel would say about such a host. Equal names get equal indexes. */
export function hostNetwork(sketch: HostSketch): HostNetwork {
  const names = Object.keys(sketch).filter((name) => !['default', 'mtu', 'down'].includes(name));
  const indexOf = (name: string) => Buffer.from(name).reduce((sum, byte) => sum * 31 + byte, 0);
  return {
    links: names.map((name) => ({
      index: indexOf(name),
      name,
      mtu: sketch.mtu?.[name] ?? 1500,
      up: !sketch.down?.includes(name),
      running: !sketch.down?.includes(name),
      gsoMaxSize: 65536,
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
    routes:
      typeof sketch.default === 'string'
        ? [{ length: 0, destination: 0, linkIndex: indexOf(sketch.default) }]
        : [],
  };
}
