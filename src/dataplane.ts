/**
 * The only importer of the native core. It hands the core validated numbers, and turns a refusal of the kernel
 * into one line that an operator can act on.
 */
import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';
import type * as Native from '../native/index.js';
import { FlannelError } from './errors.js';
import { formatIp4 } from './ip.js';
import type { Cidr4, Ip4 } from './ip.js';

export type { CounterInfo, DataplaneOptions, Feature, Stats } from '../native/index.js';

const native = loadAddon();

/** What counters.def declares, in the order of `Stats.counters`. */
export const counters = native.counters;

/** One forwarding entry: packets to `destination` go to the peer at `address:port`. */
export interface Route {
  readonly destination: Cidr4;
  readonly address: Ip4;
  readonly port: number;
}

/** The packet forwarder: a TUN device, its UDP sockets, and the threads between them. */
export class Dataplane {
  private readonly core: Native.Dataplane;

  /** Opens device and sockets. @throws FlannelError with the remedy; nothing is left behind then. */
  constructor(options: Native.DataplaneOptions) {
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

  /** Starts the threads; once. */
  start(): void {
    this.core.start();
  }

  /** Replaces the whole forwarding table under running traffic. */
  setRoutes(routes: readonly Route[]): void {
    const words = new Uint32Array(routes.length * 4);
    let at = 0;
    for (const { destination, address, port } of routes) {
      words[at++] = destination.ip;
      words[at++] = destination.length;
      words[at++] = address;
      words[at++] = port;
    }
    this.core.setRoutes(words);
  }

  stats(): Native.Stats {
    return this.core.stats();
  }

  /** Stops the threads and closes every descriptor; the device goes with them. Idempotent. */
  close(): void {
    this.core.close();
  }
}

/** A NETLINK_ROUTE socket; see native/index.d.ts. */
export function openNetlink(): Native.NetlinkSocket {
  return new native.NetlinkSocket();
}

/** Tells the service manager `state` (sd_notify(3)); false when none listens. */
export function notifyServiceManager(state: string): boolean {
  return native.notify(state);
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
  const where = `${formatIp4(options.bindAddress)}:${options.port}`;
  switch (`${error.syscall} ${code}`) {
    case 'open /dev/net/tun ENOENT':
    case 'open /dev/net/tun ENODEV':
    case 'open /dev/net/tun ENXIO':
      return (
        'there is no TUN driver behind /dev/net/tun: run `modprobe tun`, or in a container pass the device in ' +
        '(docker run --device /dev/net/tun; Kubernetes: a hostPath volume of type CharDevice)'
      );
    case 'open /dev/net/tun EACCES':
    case 'open /dev/net/tun EPERM':
      return 'no permission to open /dev/net/tun: run as root, or allow it with `chmod 0666 /dev/net/tun`';
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
      return `${formatIp4(options.bindAddress)} is not an address of this host: choose one with --iface`;
    case 'bind EACCES':
      return `no permission to bind UDP ${where}: run as root or set a Backend.Port of 1024 or above`;
    default:
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
