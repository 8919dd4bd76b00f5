/** What ICMP (RFC 792) and ICMPv6 (RFC 4443) say differently about an echo and what becomes of it. */
import { formatIp4 } from './ip.js';
import { ip6FromBytes } from './ip6.js';

export type IpVersion = 4 | 6;

/** Bytes of the header of either. */
export const ICMP_HEADER = 8;

/** What an error message reports: why a packet went no further. */
export type IcmpError =
  /** It would have had to be fragmented; `mtu` is what the hop carries, null where it is not told. */
  | { readonly kind: 'too big'; readonly mtu: number | null }
  | { readonly kind: 'other'; readonly reason: string };

/** An ICMP message as it matters here; the messages begin with their type. */
export type IcmpMessage =
  | { readonly kind: 'reply'; readonly echo: Buffer }
  /** The first bytes of an echo, where it went to, and why it did not get there. */
  | { readonly kind: 'returned'; readonly echo: Buffer; readonly to: string; readonly error: IcmpError };

export interface IcmpFamily {
  /** Bytes of the IP header before an echo. */
  readonly ipHeader: number;
  /** The type of a request. */
  readonly echo: number;
  /** Whether the kernel writes the checksum: ICMPv6's covers addresses that only it knows (RFC 3542, section 3.1). */
  readonly checksumByKernel: boolean;
  /** Of setsockopt(2): how large a packet may be, and whether it may be fragmented. */
  readonly mtuDiscovery: { readonly level: number; readonly option: number };
  /** Reads what a raw socket receives; null for what is neither of the two. */
  read(packet: Buffer): IcmpMessage | null;
}

// linux/in.h, linux/in6.h
const IPPROTO_IP = 0;
const IPPROTO_ICMP = 1;
const IPPROTO_IPV6 = 41;
const IPPROTO_ICMPV6 = 58;
const IP_MTU_DISCOVER = 10;
const IPV6_MTU_DISCOVER = 23;

const IP4_HEADER = 20;
const IP6_HEADER = 40;

/** linux/icmp.h */
const ICMP = { reply: 0, unreachable: 3, echo: 8, timeExceeded: 11 } as const;
const FRAGMENTATION_NEEDED = 4; // a code of unreachable

/** linux/icmpv6.h */
const ICMP6 = { unreachable: 1, tooBig: 2, timeExceeded: 3, echo: 128, reply: 129 } as const;

const OUT_OF_TIME: IcmpError = { kind: 'other', reason: 'the time to live ran out' };

const V4: IcmpFamily = {
  ipHeader: IP4_HEADER,
  echo: ICMP.echo,
  checksumByKernel: false,
  mtuDiscovery: { level: IPPROTO_IP, option: IP_MTU_DISCOVER },
  read(packet) {
    const message = insideIp4(packet);
    if (message === null) return null;
    if (message[0] === ICMP.reply) return { kind: 'reply', echo: message };
    const error = errorOf4(message);
    // Routers return at least the IP header and 8 bytes of what they dropped.
    const dropped = message.subarray(ICMP_HEADER);
    const echo = error && insideIp4(dropped);
    if (error === null || echo?.[0] !== ICMP.echo) return null;
    return { kind: 'returned', echo, to: formatIp4(dropped.readUInt32BE(16)), error };
  },
};

const V6: IcmpFamily = {
  ipHeader: IP6_HEADER,
  echo: ICMP6.echo,
  checksumByKernel: true,
  mtuDiscovery: { level: IPPROTO_IPV6, option: IPV6_MTU_DISCOVER },
  /** The kernel hands over ICMPv6 without the IP header. */
  read(message) {
    if (message.length < ICMP_HEADER) return null;
    if (message[0] === ICMP6.reply) return { kind: 'reply', echo: message };
    const error = errorOf6(message);
    const dropped = message.subarray(ICMP_HEADER);
    if (error === null || dropped.length < IP6_HEADER + ICMP_HEADER || dropped[6] !== IPPROTO_ICMPV6)
      return null;
    const echo = dropped.subarray(IP6_HEADER);
    if (echo[0] !== ICMP6.echo) return null;
    return { kind: 'returned', echo, to: ip6FromBytes(dropped.subarray(24, 40)), error };
  },
};

export const ICMP_FAMILIES: Readonly<Record<IpVersion, IcmpFamily>> = { 4: V4, 6: V6 };

/** The ICMP message in an IPv4 packet that holds at least its header. */
function insideIp4(packet: Buffer): Buffer | null {
  if (packet.length < IP4_HEADER || packet[9] !== IPPROTO_ICMP) return null;
  const message = packet.subarray((packet.readUInt8(0) & 0x0f) * 4);
  return message.length >= ICMP_HEADER ? message : null;
}

function errorOf4(message: Buffer): IcmpError | null {
  const [type, code = 0] = message;
  if (type === ICMP.timeExceeded) return OUT_OF_TIME;
  if (type !== ICMP.unreachable) return null;
  if (code !== FRAGMENTATION_NEEDED) return unreachable(code);
  const mtu = message.readUInt16BE(6); // RFC 1191
  return { kind: 'too big', mtu: mtu === 0 ? null : mtu };
}

function errorOf6(message: Buffer): IcmpError | null {
  const [type, code = 0] = message;
  if (type === ICMP6.timeExceeded) return OUT_OF_TIME;
  if (type === ICMP6.tooBig) return { kind: 'too big', mtu: message.readUInt32BE(4) };
  return type === ICMP6.unreachable ? unreachable(code) : null;
}

function unreachable(code: number): IcmpError {
  return { kind: 'other', reason: `unreachable, code ${code}` };
}
