/**
 * The only importer of the native core. It hands the core validated numbers, and turns a refusal of the kernel
 * into one line that an operator can act on.
 */
import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';
import type * as Native from '../native/index.js';
import { formatEndpoint, formatIp } from './address.js';
import type { Cidr, Ip } from './address.js';
import { FlannelError } from './errors.js';
import { ip6FromBytes, ip6ToBytes } from './ip6.js';

export type {
  CounterInfo,
  DataplaneOptions,
  Feature,
  HistogramInfo,
  SourceCheck,
  Stats,
} from '../native/index.js';

const native = loadAddon();

/** What counters.def declares, in the order of `Stats.counters`. */
export const counters = native.counters;

/** What histograms.def declares, in the order of `Stats.histograms`. */
export const histograms = native.histograms;

/** One forwarding entry: packets to `destination` go to the peer at `address:port`, of the sockets' family. */
export interface Route {
  readonly destination: Cidr;
  readonly address: Ip;
  readonly port: number;
  /** Whether the peer has announced that it answers probes of the path's MTU. */
  readonly answersProbes?: boolean;
}

/** What was exchanged with a peer since a route first led to it; bytes are those of inner packets. */
export interface PeerTraffic {
  readonly address: Ip;
  readonly port: number;
  readonly packetsOut: number;
  readonly bytesOut: number;
  readonly packetsIn: number;
  readonly bytesIn: number;
  /** Bytes of the largest packet that the underlay carries to it; null while nothing below the link's MTU is known. */
  readonly pathMtu: number | null;
}

/** A source of packets that the source check has refused. */
export interface Refusal {
  /** `peer`: it is no peer's address; `subnet`: it is, but the inner source is not in that peer's subnet. */
  readonly reason: 'peer' | 'subnet';
  readonly source: Ip;
  /** Of one of its packets; null where that is not known. */
  readonly innerSource: Ip | null;
}

/** The packet forwarder: a TUN device, its UDP sockets, and the threads between them. */
export class Dataplane {
  private readonly core: Native.Dataplane;

  /** Opens device and sockets. @throws FlannelError with the remedy; nothing is left behind then. */
  constructor(private readonly options: Native.DataplaneOptions) {
    this.core = explained(options, () => new native.Dataplane(options));
  }

  /** The device's name as the kernel completed it. */
  get tunName(): string {
    return this.core.tunName;
  }

  /** False where raw sockets are refused, so that ICMP errors towards this host are only counted. */
  get canSendIcmp(): boolean {
    return this.core.canSendIcmp;
  }

  /** Whether device and sockets come from another process, which forwards until start(). */
  get inherited(): boolean {
    return this.core.inherited;
  }

  /**
   * Starts the threads, once. Where another process forwards, takes over from it; set the routes before.
   * @throws FlannelError when it does not let go; it goes on, and this dataplane is to be closed.
   */
  start(): void {
    explained(this.options, () => {
      this.core.start();
    });
  }

  /** Moves the sockets to another local address. @throws FlannelError, and then they stay where they are. */
  rebind(address: Ip, port: number): void {
    explained({ ...this.options, bindAddress: address, port }, () => {
      this.core.rebind(address, port);
    });
  }

  /**
   * Opens the device anew after somebody has deleted it; it comes without addresses, routes and MTU.
   * @throws FlannelError
   */
  reopenDevice(): void {
    explained({ ...this.options, tunName: this.tunName }, () => {
      this.core.reopenDevice();
    });
  }

  /** Starts threads that have failed again. */
  restart(): void {
    this.core.restart();
  }

  /** Replaces the whole forwarding table under running traffic. */
  setRoutes(routes: readonly Route[]): void {
    this.core.setRoutes(toWords(routes));
  }

  /** Adds and replaces routes, and removes those with the prefixes `removed`, on top of those before. */
  changeRoutes(put: readonly Route[], removed: readonly Cidr[]): void {
    const gone = removed.map((destination) => ({ destination, address: 0, port: 0 }));
    this.core.changeRoutes(toWords([...gone, ...put]));
  }

  stats(): Native.Stats {
    return this.core.stats();
  }

  /** Keeps TCP's segments, both ways, to packets of `mtu` bytes, or of what the path carries where that is less. */
  clampMss(mtu: number): void {
    this.core.clampMss(mtu);
  }

  /**
   * Asks the kernel, and with `probeMtu` the peers, what the paths to peers with traffic carry; to be called every
   * second or so. Below `linkMtu` (bytes) senders are told.
   * @throws FlannelError where the kernel cannot be asked now; what was known stays.
   */
  learnPathMtus(linkMtu: number): void {
    explained(this.options, () => {
      this.core.learnPathMtus(linkMtu);
    });
  }

  /** Every peer that a route leads to. */
  peers(): PeerTraffic[] {
    const { words, figures } = this.core.peers();
    const peers: PeerTraffic[] = [];
    for (let i = 0, j = 0; i < words.length; i += WORDS_PER_PEER, j += 4) {
      const pathMtu = words[i + 5] ?? 0;
      peers.push({
        address: ipOf(words, i),
        port: words[i + 4] ?? 0,
        packetsOut: figures[j] ?? 0,
        bytesOut: figures[j + 1] ?? 0,
        packetsIn: figures[j + 2] ?? 0,
        bytesIn: figures[j + 3] ?? 0,
        pathMtu: pathMtu === 0 ? null : pathMtu,
      });
    }
    return peers;
  }

  /** Some of the sources that were refused since the last call. */
  takeRefusals(): Refusal[] {
    const { unknownPeers, wrongSubnets } = this.core.takeRefusals();
    return [...toRefusals('peer', unknownPeers), ...toRefusals('subnet', wrongSubnets)];
  }

  /** Stops the threads and closes every descriptor; the device goes with them. Idempotent. */
  close(): void {
    this.core.close();
  }
}

const WORDS_PER_ROUTE = 10;
/** Above the port. */
const ANSWERS_PROBES = 0x10000;
const WORDS_PER_PEER = 6;
const WORDS_PER_REFUSAL = 8;

/** Bits in front of an IPv4 address in the words of the core, where it is the IPv6 address that is mapped to it. */
const MAPPED = 96;
const MAPPED_WORD = 0xffff;

/** Routes as the core takes them: network, length, next hop's address, and its port with a flag above. */
function toWords(routes: readonly Route[]): Uint32Array {
  const words = new Uint32Array(routes.length * WORDS_PER_ROUTE);
  let at = 0;
  for (const { destination, address, port, answersProbes = false } of routes) {
    putIp(words, at, destination.ip);
    words[at + 4] = destination.length + (typeof destination.ip === 'number' ? MAPPED : 0);
    putIp(words, at + 5, address);
    words[at + 9] = port + (answersProbes ? ANSWERS_PROBES : 0);
    at += WORDS_PER_ROUTE;
  }
  return words;
}

/** An address in four words. */
function putIp(words: Uint32Array, at: number, ip: Ip): void {
  if (typeof ip === 'number') {
    words[at + 2] = MAPPED_WORD;
    words[at + 3] = ip;
    return;
  }
  const bytes = new DataView(ip6ToBytes(ip).buffer);
  for (let i = 0; i < 4; i++) words[at + i] = bytes.getUint32(4 * i);
}

function ipOf(words: Uint32Array, at: number): Ip {
  const [a = 0, b = 0, c = 0, d = 0] = words.subarray(at, at + 4);
  if (a === 0 && b === 0 && c === MAPPED_WORD) return d;
  const bytes = new DataView(new ArrayBuffer(16));
  for (const [i, word] of [a, b, c, d].entries()) bytes.setUint32(4 * i, word);
  return ip6FromBytes(new Uint8Array(bytes.buffer));
}

function toRefusals(reason: Refusal['reason'], words: Uint32Array): Refusal[] {
  const refusals: Refusal[] = [];
  for (let i = 0; i < words.length; i += WORDS_PER_REFUSAL) {
    const innerSource = ipOf(words, i + 4);
    refusals.push({ reason, source: ipOf(words, i), innerSource: innerSource === '::' ? null : innerSource });
  }
  return refusals;
}

/** A NETLINK_ROUTE socket; see native/index.d.ts. */
export function openNetlink(): Native.NetlinkSocket {
  return new native.NetlinkSocket();
}

/** linux/netlink.h */
const NETLINK = { route: 0, netfilter: 12 } as const;

/** A subscription to the kernel's announcements; see native/index.d.ts. */
export function openNetlinkEvents(
  family: keyof typeof NETLINK,
  groups: readonly number[],
  readable: () => void,
): Native.NetlinkEvents {
  return new native.NetlinkEvents(NETLINK[family], groups, readable);
}

/**
 * Whether a process owns the dataplane of `controlSocket`, or stands by for it, and the name of the device; null when
 * none is known.
 */
export function findOwner(controlSocket: string): {
  readonly alive: boolean;
  readonly device: string | null;
} {
  return native.findOwner(controlSocket);
}

/** Tells the service manager `state` (sd_notify(3)); false when none listens. */
export function notifyServiceManager(state: string): boolean {
  return native.notify(state);
}

/** See native/index.d.ts. @throws FlannelError; then some threads may have more than `keep`. */
export function reducePrivileges(keep: bigint): bigint {
  try {
    return native.reducePrivileges(keep);
  } catch (error) {
    if (!isNativeError(error)) throw error;
    throw new FlannelError(`${error.syscall}: ${getSystemErrorName(-error.errno)}`, { cause: error });
  }
}

/** `EPERM` for an error of the native core, undefined for any other. */
export function nativeErrorCode(error: unknown): string | undefined {
  return isNativeError(error) ? getSystemErrorName(-error.errno) : undefined;
}

function isNativeError(error: unknown): error is Native.NativeError {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number' && 'syscall' in error;
}

function loadAddon(): typeof Native {
  const file = new URL('../../build/Release/flannel_udp.node', import.meta.url).pathname;
  try {
    return createRequire(import.meta.url)(file) as typeof Native;
  } catch (error) {
    throw new FlannelError(`cannot load the native core ${file}; build it with \`npm run build:native\``, {
      cause: error,
    });
  }
}

/** Runs `open` and puts cause and remedy in place of an errno. */
function explained<T>(options: Native.DataplaneOptions, open: () => T): T {
  try {
    return open();
  } catch (error) {
    if (!isNativeError(error)) throw error;
    throw new FlannelError(explain(options, error), { cause: error });
  }
}

function explain(options: Native.DataplaneOptions, error: Native.NativeError): string {
  const code = getSystemErrorName(-error.errno);
  const where = formatEndpoint(options.bindAddress, options.port);
  switch (`${error.syscall} ${code}`) {
    case 'open /dev/net/tun ENOENT':
    case 'open /dev/net/tun ENODEV':
    case 'open /dev/net/tun ENXIO':
      return (
        'there is no TUN driver behind /dev/net/tun: run `modprobe tun`, or in a container pass the device in ' +
        '(docker run --device /dev/net/tun; Kubernetes: a hostPath volume of type CharDevice); ' +
        'with CAP_MKNOD flanneld makes the device node itself'
      );
    case 'open /dev/net/tun EACCES':
    case 'open /dev/net/tun EPERM':
      return (
        'no permission to open /dev/net/tun: run as root, or allow it with `chmod 0666 /dev/net/tun`; in a container ' +
        'pass the device in (docker run --device /dev/net/tun), which also allows it'
      );
    case 'TUNSETIFF EPERM':
      return `cannot create the TUN device ${options.tunName}: CAP_NET_ADMIN is missing; run as root or grant the capability`;
    case 'TUNSETIFF EBUSY':
      return `the TUN device ${options.tunName} belongs to another process: end that one first`;
    case 'bind EADDRINUSE':
      return (
        `UDP ${where} is taken, probably by another flanneld: end it (\`ss -ulpn 'sport = :${options.port}'\` ` +
        'names it) or set another Backend.Port on all hosts'
      );
    case 'bind EADDRNOTAVAIL':
      return `${formatIp(options.bindAddress)} is not an address of this host: choose one with --iface`;
    case 'bind EACCES':
      return `no permission to bind UDP ${where}: run as root or set a Backend.Port of 1024 or above`;
    case 'handover ETIMEDOUT':
      return (
        `another flanneld owns ${options.controlSocket ?? ''} and does not answer: end it (\`fuser\` on that file ` +
        'and its .lock names it)'
      );
    default:
      if (error.syscall.startsWith('handover')) {
        const reason = error.syscall.slice('handover: '.length) || error.message;
        return `the flanneld that is running does not hand over: ${reason}; it goes on`;
      }
      if (code === 'ENOTSUP' && error.syscall.startsWith('inherited features ')) {
        const features = error.syscall.slice('inherited features '.length).replaceAll(',', ', ');
        return `the device of the flanneld that is running lacks ${features}, which --dataplane-tier asks for: end that one first`;
      }
      if (code === 'ENOTSUP' && error.syscall.startsWith('features ')) {
        const features = error.syscall.slice('features '.length);
        return (
          `this kernel lacks ${features.replaceAll(',', ', ')}, which --dataplane-tier asks for: choose a lower ` +
          `tier, auto, or --dataplane-disable=${features}`
        );
      }
      return `cannot open the dataplane on ${where}: ${error.message} (${code})`;
  }
}
