/** Links, addresses and routes of the own network namespace. Constants: linux/rtnetlink.h, if_addr.h, if_link.h. */
import { openNetlink } from '../dataplane.js';
import type { Cidr, Ip } from '../address.js';
import type { Ip4 } from '../ip.js';
import type { Ip6 } from '../ip6.js';
import { attribute, header, HostView, Message, MessageWriter } from './message.js';

const RTM = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  NEWADDR: 20,
  GETADDR: 22,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
} as const;
const NLM_F_DUMP = 0x300;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;
const AF_UNSPEC = 0;
const AF_INET = 2;
const AF_INET6 = 10;

const IFINFOMSG_SIZE = 16;
const IFLA = { IFNAME: 3, MTU: 4, TXQLEN: 13, LINKINFO: 18, AF_SPEC: 26, GSO_MAX_SIZE: 41 } as const;
const IFLA_INET6 = { CONF: 2, ADDR_GEN_MODE: 8 } as const;
const IN6_ADDR_GEN_MODE_NONE = 1;
const DEVCONF_DISABLE_IPV6 = 26; // linux/ipv6.h: which word of IFLA_INET6_CONF
const IFLA_INFO = { KIND: 1, DATA: 2 } as const;
const IFLA_TUN = { PERSIST: 6, NUM_QUEUES: 8 } as const;
const IFF_UP = 0x01;
const IFF_RUNNING = 0x40;

const IFADDRMSG_SIZE = 8;
const IFA = { ADDRESS: 1, LOCAL: 2, FLAGS: 8 } as const;
const IFA_F_NODAD = 0x02;
const IFA_F_NOPREFIXROUTE = 0x200;

const RTMSG_SIZE = 12;
const RTA = { DST: 1, OIF: 4, PRIORITY: 6, PREFSRC: 7, METRICS: 8, TABLE: 15 } as const;
const RTAX_MTU = 2;
const RT_TABLE_MAIN = 254;
const RTPROT_BOOT = 3;
const RTN = { UNICAST: 1, LOCAL: 2, BLACKHOLE: 6 } as const;
const RT_SCOPE_NOWHERE = 255; // in a deletion: whatever the scope
const IP6_RT_PRIO_USER = 1024; // linux/ipv6_route.h: the metric of IPv6 routes that are given none

export interface Link {
  readonly index: number;
  readonly name: string;
  readonly mtu: number;
  /** Set up by the administrator. */
  readonly up: boolean;
  /** Up, and with a carrier. */
  readonly running: boolean;
  /** The largest super-packet that the link is handed, in bytes; null where the kernel does not say. */
  readonly gsoMaxSize: number | null;
  /** Packets that may wait in it. */
  readonly queueLength: number;
  /** What a TUN device tells of itself; null for any other. */
  readonly tun: TunInfo | null;
  /** Null where the kernel has no IPv6, or none for this link: it has to carry 1280 bytes. */
  readonly ipv6: LinkIpv6 | null;
}

export interface LinkIpv6 {
  /** By the setting disable_ipv6. */
  readonly disabled: boolean;
  /** Whether the kernel gives the link an address of its own (fe80::…) when it comes up. */
  readonly linkLocal: boolean;
}

export interface TunInfo {
  /** It stays when no process holds it. */
  readonly persistent: boolean;
  /** How many of its queues processes hold; null for a device that can have but one. */
  readonly queues: number | null;
}

export interface Address<Ip = Ip4> {
  readonly linkIndex: number;
  readonly ip: Ip;
  /** Prefix length. */
  readonly length: number;
  /** RT_SCOPE_*: 0 global, 253 link, 254 host. */
  readonly scope: number;
  /** IFA_F_*: 0x01 temporary, 0x08 found to be a duplicate, 0x20 deprecated, 0x80 permanent. */
  readonly flags: number;
}

export interface RouteEntry<Ip = Ip4> {
  /** Prefix length of the destination; 0 is a default route. */
  readonly length: number;
  readonly destination: Ip;
  /** Null for a route without a single outgoing link, such as a multipath one. */
  readonly linkIndex: number | null;
}

/** The kernel's answer to the question how it would send to an address. */
export interface Way<Ip> {
  readonly linkIndex: number | null;
  /** The address it would send from. */
  readonly source: Ip | null;
  /** Whether the address is one of this host. */
  readonly local: boolean;
  /** Bytes, where a route or a router on the way has said so; null where only the link's own MTU counts. */
  readonly pathMtu: number | null;
}

/** The host's links, addresses and routes at one moment. */
export interface HostNetwork {
  readonly links: readonly Link[];
  /** Of IPv4, as the routes are. */
  readonly addresses: readonly Address[];
  readonly routes: readonly RouteEntry[];
  /** Null where it was not asked for. */
  readonly v6: HostNetwork6 | null;
}

/** Of IPv6. */
export interface HostNetwork6 {
  readonly addresses: readonly Address<Ip6>[];
  readonly routes: readonly RouteEntry<Ip6>[];
}

/** What an announcement is about; a route is null where it is none that would be listed. */
export type Announcement =
  | { readonly about: 'link or address' }
  | { readonly about: 'route'; readonly route: RouteEntry | null }
  | { readonly about: 'IPv6 route'; readonly route: RouteEntry<Ip6> | null };

export function readAnnouncement(bytes: Uint8Array): Announcement {
  const message = new Message(bytes, RTMSG_SIZE);
  const isRoute = message.type === RTM.NEWROUTE || message.type === RTM.DELROUTE;
  if (!isRoute) return { about: 'link or address' };
  return message.header.u8(0) === AF_INET6
    ? { about: 'IPv6 route', route: decodeRoute6(message) }
    : { about: 'route', route: decodeRoute(message) };
}

function decodeTun(message: Message): TunInfo | null {
  const info = message.nested(IFLA.LINKINFO);
  if (info?.text(IFLA_INFO.KIND) !== 'tun') return null;
  const data = info.nested(IFLA_INFO.DATA);
  return {
    persistent: data?.u8(IFLA_TUN.PERSIST) === 1,
    queues: data?.u32(IFLA_TUN.NUM_QUEUES) ?? null,
  };
}

function decodeIpv6(message: Message): LinkIpv6 | null {
  const inet6 = message.nested(IFLA.AF_SPEC)?.nested(AF_INET6);
  if (inet6 === undefined) return null;
  const settings = inet6.bytes(IFLA_INET6.CONF);
  const at = 4 * DEVCONF_DISABLE_IPV6;
  const disabled =
    settings !== undefined && settings.length >= at + 4 && new HostView(settings).u32(at) !== 0;
  return { disabled, linkLocal: inet6.u8(IFLA_INET6.ADDR_GEN_MODE) !== IN6_ADDR_GEN_MODE_NONE };
}

/** Null for a route of another table than the main one, or none that carries packets on. */
function decodeRoute(message: Message): RouteEntry | null {
  return routeTo(message, message.ip4(RTA.DST) ?? 0);
}

function decodeRoute6(message: Message): RouteEntry<Ip6> | null {
  return routeTo(message, message.ip6(RTA.DST) ?? '::');
}

function routeTo<Ip>(message: Message, destination: Ip): RouteEntry<Ip> | null {
  if (!isInMainTable(message) || message.header.u8(7) !== RTN.UNICAST) return null;
  return { length: message.header.u8(1), destination, linkIndex: message.u32(RTA.OIF) ?? null };
}

function decodeAddress<Ip>(message: Message, ip: Ip | undefined): Address<Ip>[] {
  if (ip === undefined) return [];
  // The 8 bits in the header are too few for today's flags.
  const flags = message.u32(IFA.FLAGS) ?? message.header.u8(2);
  const [length, scope] = [message.header.u8(1), message.header.u8(3)];
  return [{ linkIndex: message.header.u32(4), ip, length, scope, flags }];
}

/** Asks one thing over a client of its own. @throws NativeError */
export function withNetlink<T>(ask: (netlink: Rtnetlink) => T): T {
  const netlink = new Rtnetlink();
  try {
    return ask(netlink);
  } finally {
    netlink.close();
  }
}

function isInMainTable(message: Message): boolean {
  return (message.u32(RTA.TABLE) ?? message.header.u8(4)) === RT_TABLE_MAIN;
}

/** A route of the main table to exactly this prefix, of whatever type. */
function leadsTo({ ip, length }: Cidr, message: Message): boolean {
  if (!isInMainTable(message) || !isOf(familyOf(ip))(message) || message.header.u8(1) !== length)
    return false;
  return ip === (typeof ip === 'number' ? (message.ip4(RTA.DST) ?? 0) : (message.ip6(RTA.DST) ?? '::'));
}

/** Whether an announcement is about a route of the main table to exactly this prefix, of whatever type. */
export function isAboutRouteTo(destination: Cidr, announcement: Uint8Array): boolean {
  return leadsTo(destination, new Message(announcement, RTMSG_SIZE));
}

/** @param ipv6 whether that is of interest @throws NativeError */
export function readHostNetwork(ipv6: boolean): HostNetwork {
  return withNetlink((netlink) => ({
    links: netlink.links(),
    addresses: netlink.addresses(),
    routes: netlink.routes(),
    v6: ipv6 ? { addresses: netlink.addresses6(), routes: netlink.routes6() } : null,
  }));
}

function familyOf(ip: Ip): number {
  return typeof ip === 'number' ? AF_INET : AF_INET6;
}

function lookup(target: Ip, length: number): Uint8Array {
  const route = header(RTMSG_SIZE, (view) => {
    view.setU8(0, familyOf(target));
    view.setU8(1, length);
  });
  return new MessageWriter(RTM.GETROUTE, 0, route).ip(RTA.DST, target).finish();
}

/** A kernel without a family answers a dump of it with those of another. */
function isOf(addressFamily: number): (message: Message) => boolean {
  return (message) => message.header.u8(0) === addressFamily;
}

/**
 * A synchronous rtnetlink client. What the kernel refuses is thrown as NativeError; nativeErrorCode() tells the
 * errno.
 */
export class Rtnetlink {
  private readonly socket = openNetlink();

  links(): Link[] {
    return this.dump(RTM.GETLINK, IFINFOMSG_SIZE, AF_UNSPEC).map((message) => ({
      index: message.header.u32(4),
      name: message.text(IFLA.IFNAME) ?? '',
      mtu: message.u32(IFLA.MTU) ?? 0,
      up: (message.header.u32(8) & IFF_UP) !== 0,
      running: (message.header.u32(8) & IFF_RUNNING) !== 0,
      gsoMaxSize: message.u32(IFLA.GSO_MAX_SIZE) ?? null,
      queueLength: message.u32(IFLA.TXQLEN) ?? 0,
      tun: decodeTun(message),
      ipv6: decodeIpv6(message),
    }));
  }

  /** IPv4 addresses, in the kernel's order. */
  addresses(): Address[] {
    return this.dump(RTM.GETADDR, IFADDRMSG_SIZE, AF_INET).flatMap((message) =>
      decodeAddress(message, message.ip4(IFA.LOCAL) ?? message.ip4(IFA.ADDRESS)),
    );
  }

  /** IPv6 addresses, in the kernel's order; none where it has no IPv6. */
  addresses6(): Address<Ip6>[] {
    return this.dump(RTM.GETADDR, IFADDRMSG_SIZE, AF_INET6)
      .filter(isOf(AF_INET6))
      .flatMap((message) => decodeAddress(message, message.ip6(IFA.LOCAL) ?? message.ip6(IFA.ADDRESS)));
  }

  /** IPv4 unicast routes of the main table, in the kernel's order. */
  routes(): RouteEntry[] {
    return this.dump(RTM.GETROUTE, RTMSG_SIZE, AF_INET).flatMap((message) => decodeRoute(message) ?? []);
  }

  /** The same for IPv6. */
  routes6(): RouteEntry<Ip6>[] {
    return this.dump(RTM.GETROUTE, RTMSG_SIZE, AF_INET6)
      .filter(isOf(AF_INET6))
      .flatMap((message) => decodeRoute6(message) ?? []);
  }

  /** How the kernel would send to an address. @throws NativeError where it has no way. */
  lookUpRoute(target: Ip4): Way<Ip4> {
    return this.wayOf(lookup(target, 32), (message) => message.ip4(RTA.PREFSRC));
  }

  /** The same for IPv6. */
  lookUpRoute6(target: Ip6): Way<Ip6> {
    return this.wayOf(lookup(target, 128), (message) => message.ip6(RTA.PREFSRC));
  }

  /** The types of the main table's routes to exactly this prefix, in the order in which they count. */
  routesTo(destination: Cidr): ('blackhole' | 'other')[] {
    return this.dump(RTM.GETROUTE, RTMSG_SIZE, familyOf(destination.ip))
      .filter((message) => leadsTo(destination, message))
      .map((message) => (message.header.u8(7) === RTN.BLACKHOLE ? 'blackhole' : 'other'));
  }

  /** Sets the MTU (bytes) and brings the link up. */
  bringUp(linkIndex: number, mtu: number): void {
    const link = header(IFINFOMSG_SIZE, (view) => {
      view.setU32(4, linkIndex);
      view.setU32(8, IFF_UP); // the flags,
      view.setU32(12, IFF_UP); // and which of them change
    });
    this.socket.request(new MessageWriter(RTM.NEWLINK, 0, link).u32(IFLA.MTU, mtu).finish());
  }

  deleteLink(linkIndex: number): void {
    const link = header(IFINFOMSG_SIZE, (view) => {
      view.setU32(4, linkIndex);
    });
    this.socket.request(new MessageWriter(RTM.DELLINK, 0, link).finish());
  }

  /** How many packets may wait in each queue. Under traffic, a change of it loses some. */
  setQueueLength(linkIndex: number, packets: number): void {
    const link = header(IFINFOMSG_SIZE, (view) => {
      view.setU32(4, linkIndex);
    });
    this.socket.request(new MessageWriter(RTM.NEWLINK, 0, link).u32(IFLA.TXQLEN, packets).finish());
  }

  /** Limits the super-packets that the link is handed, in bytes. */
  setGsoMaxSize(linkIndex: number, bytes: number): void {
    const link = header(IFINFOMSG_SIZE, (view) => {
      view.setU32(4, linkIndex);
    });
    this.socket.request(new MessageWriter(RTM.NEWLINK, 0, link).u32(IFLA.GSO_MAX_SIZE, bytes).finish());
  }

  /** Has the link come up without an IPv6 address that the kernel makes. */
  omitLinkLocal(linkIndex: number): void {
    const link = header(IFINFOMSG_SIZE, (view) => {
      view.setU32(4, linkIndex);
    });
    const mode = attribute(IFLA_INET6.ADDR_GEN_MODE, Uint8Array.of(IN6_ADDR_GEN_MODE_NONE));
    const request = new MessageWriter(RTM.NEWLINK, 0, link);
    this.socket.request(request.attribute(IFLA.AF_SPEC, attribute(AF_INET6, mode)).finish());
  }

  /** One of IPv6 can be used at once, and brings no route to its prefix. */
  addAddress(linkIndex: number, { ip, length }: Cidr): void {
    const address = header(IFADDRMSG_SIZE, (view) => {
      view.setU8(0, familyOf(ip));
      view.setU8(1, length);
      view.setU32(4, linkIndex);
    });
    const message = new MessageWriter(RTM.NEWADDR, NLM_F_CREATE | NLM_F_EXCL, address);
    message.ip(IFA.LOCAL, ip).ip(IFA.ADDRESS, ip);
    if (typeof ip !== 'number') message.u32(IFA.FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
    this.socket.request(message.finish());
  }

  /** A route of global scope through the link, without a gateway. */
  addRoute(destination: Cidr, linkIndex: number): void {
    const message = route(RTM.NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, destination, RTN.UNICAST);
    this.socket.request(message.u32(RTA.OIF, linkIndex).finish());
  }

  /** A route at which packets end, unseen. */
  addBlackhole(destination: Cidr): void {
    const message = route(RTM.NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, destination, RTN.BLACKHOLE);
    this.socket.request(message.finish());
  }

  deleteBlackhole(destination: Cidr): void {
    const message = route(RTM.DELROUTE, 0, destination, RTN.BLACKHOLE, RT_SCOPE_NOWHERE);
    // Of IPv6 routes the kernel does not compare the type: the one of a bridge to the same prefix has another metric.
    if (typeof destination.ip !== 'number') message.u32(RTA.PRIORITY, IP6_RT_PRIO_USER);
    this.socket.request(message.finish());
  }

  close(): void {
    this.socket.close();
  }

  private wayOf<Ip>(request: Uint8Array, sourceIn: (message: Message) => Ip | undefined): Way<Ip> {
    const [bytes = new Uint8Array()] = this.socket.request(request);
    const message = new Message(bytes, RTMSG_SIZE);
    return {
      linkIndex: message.u32(RTA.OIF) ?? null,
      source: sourceIn(message) ?? null,
      local: message.header.u8(7) === RTN.LOCAL,
      pathMtu: message.nested(RTA.METRICS)?.u32(RTAX_MTU) ?? null,
    };
  }

  private dump(type: number, headerSize: number, addressFamily: number): Message[] {
    const family = header(headerSize, (view) => {
      view.setU8(0, addressFamily);
    });
    const answer = this.socket.request(new MessageWriter(type, NLM_F_DUMP, family).finish());
    return answer.map((bytes) => new Message(bytes, headerSize));
  }
}

/** A message about a route of the main table. */
function route(type: number, flags: number, { ip, length }: Cidr, kind: number, scope = 0): MessageWriter {
  const fixed = header(RTMSG_SIZE, (view) => {
    view.setU8(0, familyOf(ip));
    view.setU8(1, length);
    view.setU8(4, RT_TABLE_MAIN);
    view.setU8(5, RTPROT_BOOT);
    view.setU8(6, scope);
    view.setU8(7, kind);
  });
  return new MessageWriter(type, flags, fixed).ip(RTA.DST, ip);
}
