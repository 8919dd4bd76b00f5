/**
 * ICMP echo of either family, several in flight. It goes through the optional package raw-socket, which is compiled when
 * it is installed and loaded only when it is used.
 */
import { randomBytes, randomInt } from 'node:crypto';
import type { Socket } from 'raw-socket';
import { formatIp } from './address.js';
import type { Ip } from './address.js';
import { codeOf, messageOf } from './errors.js';
import { ICMP_FAMILIES, ICMP_HEADER } from './icmp.js';
import type { IcmpError, IcmpFamily, IpVersion } from './icmp.js';

const NONCE_BYTES = 8;
const LARGEST_PACKET = 65_535;

// linux/in.h, linux/in6.h: the same for both families
const PMTUDISC_DONT = 0;
/** Nothing is fragmented here, and no look at the path MTU that the kernel has learned: the path itself answers. */
const PMTUDISC_PROBE = 3;

export interface EchoOptions {
  /** Length of the IP packet in bytes, headers included, up to 65535; at least headers and nonce are sent. */
  readonly size: number;
  readonly dontFragment: boolean;
  readonly timeoutMs: number;
}

export type EchoResult =
  | { readonly outcome: 'reply'; readonly rttMs: number }
  | { readonly outcome: 'timeout' }
  /** Somewhere it would have had to be fragmented; `mtu` is what that hop carries, null where it is not told. */
  | { readonly outcome: 'too big'; readonly mtu: number | null }
  | { readonly outcome: 'unreachable'; readonly reason: string };

interface InFlight {
  readonly address: string;
  readonly request: Buffer;
  readonly timer: NodeJS.Timeout;
  sentAt: number;
  readonly settle: (result: EchoResult) => void;
}

type RawSocketModule = typeof import('raw-socket').default;

/** An open socket for echoes, or why there can be none. */
export type EchoAccess =
  { readonly echo: Echo; readonly reason: null } | { readonly echo: null; readonly reason: string };

/** Needs the package raw-socket and CAP_NET_RAW. */
export async function openEcho(version: IpVersion): Promise<EchoAccess> {
  let raw: RawSocketModule;
  try {
    ({ default: raw } = await import('raw-socket'));
  } catch (error) {
    const why = codeOf(error) === 'ERR_MODULE_NOT_FOUND' ? 'is not installed' : 'was not compiled';
    return { echo: null, reason: `the package raw-socket ${why}: run \`npm install raw-socket\`` };
  }
  try {
    const { Protocol, AddressFamily } = raw;
    const kind =
      version === 4
        ? { protocol: Protocol.ICMP, addressFamily: AddressFamily.IPv4 }
        : { protocol: Protocol.ICMPv6, addressFamily: AddressFamily.IPv6 };
    const socket = raw.createSocket({ ...kind, bufferSize: LARGEST_PACKET });
    return { echo: new Echo(raw, socket, ICMP_FAMILIES[version]), reason: null };
  } catch (error) {
    return {
      echo: null,
      reason: `cannot open a raw socket (${messageOf(error)}): run as root or grant CAP_NET_RAW`,
    };
  }
}

/** One raw ICMP socket of one family. It receives what the whole host receives, hence id, sequence number and nonce. */
export class Echo {
  private readonly id = randomInt(0x10000);
  private readonly inFlight = new Map<number, InFlight>();
  private sequence = 0;
  private closed: string | null = null;

  constructor(
    private readonly raw: RawSocketModule,
    private readonly socket: Socket,
    private readonly family: IcmpFamily,
  ) {
    socket.on('message', (packet, source) => {
      this.received(packet, source);
    });
    socket.on('error', (error) => {
      this.end(messageOf(error));
    });
  }

  /** One echo to an address of the socket's family; it never rejects. */
  ping(ip: Ip, { size, dontFragment, timeoutMs }: EchoOptions): Promise<EchoResult> {
    return new Promise((resolve) => {
      const sequence = this.nextSequence();
      if (this.closed !== null || sequence === null) {
        resolve({ outcome: 'unreachable', reason: this.closed ?? 'too many echoes in flight' });
        return;
      }
      const settle = (result: EchoResult) => {
        clearTimeout(entry.timer);
        this.inFlight.delete(sequence);
        resolve(result);
      };
      const timer = setTimeout(settle, timeoutMs, { outcome: 'timeout' });
      const entry = {
        address: formatIp(ip),
        request: this.request(sequence, size),
        timer,
        sentAt: 0,
        settle,
      };
      this.inFlight.set(sequence, entry);
      this.send(entry, dontFragment);
    });
  }

  /** Ends what is in flight as unreachable. Idempotent. */
  close(): void {
    if (this.closed === null) this.socket.close();
    this.end('closed');
  }

  private end(reason: string): void {
    this.closed ??= reason;
    for (const { settle } of [...this.inFlight.values()]) settle({ outcome: 'unreachable', reason });
  }

  private nextSequence(): number | null {
    if (this.inFlight.size > 0xffff) return null;
    do this.sequence = (this.sequence + 1) & 0xffff;
    while (this.inFlight.has(this.sequence));
    return this.sequence;
  }

  private request(sequence: number, size: number): Buffer {
    const { ipHeader, echo, checksumByKernel } = this.family;
    const request = Buffer.alloc(Math.max(size - ipHeader, ICMP_HEADER + NONCE_BYTES));
    request.writeUInt8(echo, 0);
    request.writeUInt16BE(this.id, 4);
    request.writeUInt16BE(sequence, 6);
    randomBytes(NONCE_BYTES).copy(request, ICMP_HEADER);
    if (!checksumByKernel) this.raw.writeChecksum(request, 2, this.raw.createChecksum(request));
    return request;
  }

  private send(entry: InFlight, dontFragment: boolean): void {
    const { level, option } = this.family.mtuDiscovery;
    const discovery = dontFragment ? PMTUDISC_PROBE : PMTUDISC_DONT;
    const before = () => {
      this.socket.setOption(level, option, discovery);
      entry.sentAt = performance.now();
    };
    const done = (error: Error | null) => {
      if (error !== null) entry.settle(refusedHere(error));
    };
    this.socket.send(entry.request, 0, entry.request.length, entry.address, before, done);
  }

  private received(packet: Buffer, source: string): void {
    const now = performance.now();
    const message = this.family.read(packet);
    if (message === null) return;
    const entry = this.find(message.echo);
    if (entry === undefined) return;
    if (message.kind === 'returned') {
      if (entry.address === message.to) entry.settle(refusedBy(message.error, source));
    } else if (entry.address === source && nonceOf(message.echo).equals(nonceOf(entry.request))) {
      entry.settle({ outcome: 'reply', rttMs: now - entry.sentAt });
    }
  }

  private find(echo: Buffer): InFlight | undefined {
    return echo.readUInt16BE(4) === this.id ? this.inFlight.get(echo.readUInt16BE(6)) : undefined;
  }
}

function nonceOf(echo: Buffer): Buffer {
  return echo.subarray(ICMP_HEADER, ICMP_HEADER + NONCE_BYTES);
}

function refusedBy(error: IcmpError, router: string): EchoResult {
  return error.kind === 'too big'
    ? { outcome: 'too big', mtu: error.mtu }
    : { outcome: 'unreachable', reason: `${router}: ${error.reason}` };
}

/** The package passes on the text of an errno only. */
function refusedHere(error: Error): EchoResult {
  if (error.message === 'Message too long') return { outcome: 'too big', mtu: null };
  return { outcome: 'unreachable', reason: error.message };
}
