/**
 * The whole surface between the control plane and the native core. No property is optional (null stands for
 * "none"). The threads that move packets never call into JavaScript; the one callback there is, that of
 * NetlinkEvents, is called by the event loop.
 *
 * Every call that asks the kernel for something throws a NativeError when the kernel refuses.
 *
 * IPv4 addresses are unsigned 32-bit numbers in host order (10.0.0.1 = 0x0a000001), IPv6 addresses text. In the words
 * of a table either is four words, the first one being the high one, and an IPv4 address the IPv6 address that is
 * mapped to it (::ffff:a.b.c.d).
 */

/** Thrown by every call below that reaches the kernel. */
export interface NativeError extends Error {
  /** The positive errno of the failed call. */
  readonly errno: number;
  /** What was tried, e.g. `open /dev/net/tun`, `bind`. */
  readonly syscall: string;
}

/**
 * `batch`: recvmmsg and sendmmsg; `gso`, `gro`: UDP_SEGMENT and UDP_GRO; `tso`, `uso`: TCP and UDP super-packets
 * through the TUN device.
 */
export type Feature = 'batch' | 'gso' | 'gro' | 'tso' | 'uso';

/**
 * What is asked of a received datagram: `none`: nothing; `peer`: that it comes from the address, whatever the port, of a
 * next hop of the routes; `subnet`: also that a route leads the inner packet's source back to that address.
 */
export type SourceCheck = 'none' | 'peer' | 'subnet';

export interface DataplaneOptions {
  /** Name of the TUN device, or a template such as `flannel%d` that the kernel completes. */
  readonly tunName: string;
  /** What to use of the kernel, where it has it; none at all moves one packet a system call. */
  readonly features: readonly Feature[];
  /** Whether a feature that the kernel lacks is an error (ENOTSUP, `features NAME,…`) instead of left out. */
  readonly required: boolean;
  /** `single`: one thread for both directions; `split`: encap and decap have one each. */
  readonly threads: 'single' | 'split';
  /** TUN queues, each with a socket and threads of its own; 1 … 64. More than 1 needs IFF_MULTI_QUEUE. */
  readonly queues: number;
  /**
   * Ports that each queue sends from; 1 … 64. 1: from `port`. More: from as many ports that the kernel chooses, each
   * flow from one of them, so that a network that spreads traffic by ports (ECMP, RSS) spreads a tunnel's flows.
   */
  readonly sourcePorts: number;
  /** Local address that the sockets are bound to. Its family is that of the tunnel. */
  readonly bindAddress: number | string;
  readonly port: number;
  /** Socket receive buffer in bytes; 0 leaves the system's default. */
  readonly receiveBuffer: number;
  /**
   * Socket send buffer in bytes; 0 leaves the system's default. Datagrams to a peer whose link address is being
   * looked for wait in it, up to net.ipv4.neigh.*.unres_qlen_bytes a peer: too small, it lets dead peers block
   * the living.
   */
  readonly sendBuffer: number;
  /**
   * Source address of the ICMP errors: the IPv4 address of the TUN device; 0: this network carries no IPv4, and drops
   * it both ways.
   */
  readonly tunnelAddress: number;
  /** The same for ICMPv6: its IPv6 address; null: this network carries no IPv6. */
  readonly tunnelAddress6: string | null;
  readonly sourceCheck: SourceCheck;
  /** As for clampMss(). */
  readonly clampMtu: number;
  /**
   * Whether peers are told what their probes of the path's MTU have carried, and learnPathMtus() sends such probes to
   * peers whose routes say that they answer.
   */
  readonly probeMtu: boolean;
  /**
   * A unix socket by which the dataplane passes from process to process; null: it lives and dies with this one.
   * Where a process listens there already, its device and sockets are taken over by start(). The device stays
   * when this process is killed, and goes at close().
   */
  readonly controlSocket: string | null;
  /** An owner refuses a successor of a lower one. 32 bits. */
  readonly generation: number;
}

/** One row of counters.def. */
export interface CounterInfo {
  readonly name: string;
  /** For each direction: packets in = packets out + the sum of its drops. `info` stands outside that sum. */
  readonly direction: 'encap' | 'decap';
  readonly role: 'in' | 'out' | 'drop' | 'info';
  readonly help: string;
}

/** One row of histograms.def. */
export interface HistogramInfo {
  /** Ends in the unit. */
  readonly name: string;
  readonly direction: 'encap' | 'decap';
  readonly help: string;
  /** Rising; a value on a bound lies in the bucket below it, one beyond the last bound in a last bucket. */
  readonly bounds: readonly number[];
}

export interface Stats {
  /** Sums over all workers since the start, in the order of `counters`. */
  readonly counters: Float64Array;
  /**
   * In the order of `histograms`: the number of values in each bucket (one more than bounds), then the sum of all
   * values.
   */
  readonly histograms: readonly Float64Array[];
  /** In use now: after probing, and without what failed at run time. */
  readonly features: readonly Feature[];
  readonly routes: number;
  /** Why a dataplane thread stopped working, or null while all of them run. */
  readonly failure: string | null;
  /** How often threads were started again, after a failure or over a new device. */
  readonly restarts: number;
  /**
   * `owner`: forwards; `parked`: another process has just taken over, or has yet to be taken over from; `handed
   * over`: another process forwards, for good; `deposed`: the predecessor has taken the dataplane back.
   */
  readonly standing: 'owner' | 'parked' | 'handed over' | 'deposed';
  /** Why it is `deposed`, or why the last attempt to hand over failed; null for neither. */
  readonly standingReason: string | null;
  /** Whether a process stands by that would forward in this one's place at once. */
  readonly stoodBy: boolean;
}

export declare class Dataplane {
  /** Opens the TUN device and the sockets. Nothing is left behind when it throws. */
  constructor(options: DataplaneOptions);
  /** The device's name as the kernel completed it. */
  readonly tunName: string;
  /** True when the TUN was opened with IFF_MULTI_QUEUE. */
  readonly multiQueue: boolean;
  /** False where raw sockets are refused: errors towards this host are then counted instead of sent. */
  readonly canSendIcmp: boolean;
  /** Whether device and sockets come from another process, which forwards until start(). */
  readonly inherited: boolean;
  /**
   * Starts the threads, once; takes over from the process that forwards, which takes milliseconds. When it throws,
   * that process goes on, and this dataplane is to be closed. The routes should be set before.
   */
  start(): void;
  /**
   * Replaces the whole forwarding table: ten words a route (network, prefix length, next hop's address, next hop's
   * port, plus 65536 where the peer answers probes of the path's MTU). The length counts all 128 bits: 96 more for IPv4. Next hops are of the family of `bindAddress`. Of two
   * routes with one prefix the later one counts. Throws RangeError for a bad route, and then the table before stays.
   */
  setRoutes(routes: Uint32Array): void;
  /**
   * Adds and replaces routes on top of those before, in the same words; a port of 0 removes the route of that prefix.
   * Costs what changes, not what stays. Throws RangeError, and then the table before stays.
   */
  changeRoutes(changes: Uint32Array): void;
  stats(): Stats;
  /**
   * Lowers the maximum segment size in the SYNs of TCP, both ways, to packets of `mtu` bytes, or of what is known to
   * get to the peer where that is less; 0: leaves them as they are.
   */
  clampMss(mtu: number): void;
  /**
   * Asks the kernel what the paths to peers carry, those that have had traffic since it was last asked and those that
   * were narrow, about a thousand a call and in turn; with `probeMtu` also the peers, by up to 256 probes a call. A path is narrow when it carries less than `linkMtu` (bytes): then
   * packets with DF that are too large for it are answered with fragmentation-needed, those of IPv6 with packet-too-big. To be called every second or so.
   */
  learnPathMtus(linkMtu: number): void;
  /**
   * The traffic with each peer, that is each next hop of the routes, since a route first led to it: six words a peer
   * (address, port, path MTU in bytes or 0 where it is not known to be narrow) and four figures (packets out, bytes
   * out, packets in, bytes in). Out: inner packets that the kernel accepted as datagrams; in: as they came from the
   * peer's address. Bytes are those of inner packets.
   */
  peers(): { readonly words: Uint32Array; readonly figures: Float64Array };
  /**
   * Who was refused by the source check since the last call, a few sources of each kind: eight words a source (its
   * address, and the inner source of one of its packets, :: where that is not known). Counted are all.
   */
  takeRefusals(): { readonly unknownPeers: Uint32Array; readonly wrongSubnets: Uint32Array };
  /** Moves the sockets to another local address of their family. When it throws, they stay where they are. */
  rebind(address: number | string, port: number): void;
  /** Opens the device anew, under its name, after somebody has deleted it; without addresses, routes and MTU. */
  reopenDevice(): void;
  /** Starts threads that have failed again. */
  restart(): void;
  /** Stops the threads and closes every descriptor; the device goes with the last of them. Idempotent. */
  close(): void;
}

/** A NETLINK_ROUTE socket for synchronous requests. */
export declare class NetlinkSocket {
  constructor();
  /**
   * Sends one request (header included; sequence and port id are filled in) and returns every message of the
   * answer, without the final acknowledgement. The kernel's own words are part of the error's message.
   */
  request(message: Uint8Array): Uint8Array[];
  close(): void;
}

/** What the kernel has announced since it was last asked. */
export interface NetlinkNews {
  /** Headers included. */
  readonly messages: readonly Uint8Array[];
  /** There was more, which is lost: whoever needs to know has to ask for everything anew. */
  readonly overrun: boolean;
}

/** A subscription to what the kernel announces. It does not keep the event loop alive. */
export declare class NetlinkEvents {
  /**
   * Subscribes to groups of a family of linux/netlink.h, such as the RTNLGRP_* of NETLINK_ROUTE. The event loop calls `readable` whenever there is news that
   * read() has not fetched, several announcements together; never after close().
   */
  constructor(family: number, groups: readonly number[], readable: () => void);
  /** Everything that waits; never blocks. Nothing once closed. */
  read(): NetlinkNews;
  /** Idempotent. */
  close(): void;
}

/**
 * Whether a process owns the dataplane of `controlSocket`, or stands by for it, and the name of the device; null when
 * none is known.
 */
export declare function findOwner(controlSocket: string): {
  readonly alive: boolean;
  readonly device: string | null;
};

/** Sends `state` to the service manager (sd_notify(3)); false when NOTIFY_SOCKET names none. */
export declare function notify(state: string): boolean;

/**
 * Takes every capability that is not in `keep` from all threads of this process and from the programs it will run, for
 * good, and sets no_new_privs. Bit n stands for capability n of linux/capability.h; returns those that are left.
 */
export declare function reducePrivileges(keep: bigint): bigint;

/** What counters.def declares, in the order of `Stats.counters`. */
export declare const counters: readonly CounterInfo[];

/** What histograms.def declares, in the order of `Stats.histograms`. */
export declare const histograms: readonly HistogramInfo[];
