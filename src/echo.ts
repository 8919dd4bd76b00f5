/**
 * ICMP echo (RFC 792), several in flight. It goes through the optional package raw-socket, which is compiled when it
 * is installed and loaded only when it is used.
 */
import { randomBytes, randomInt } from 'node:crypto';
import type { Socket } from 'raw-socket';
import { codeOf, messageOf } from './errors.js';
import { formatIp4 } from './ip.js';
import type { Ip4 } from './ip.js';

const ECHO_REPLY = 0;
const UNREACHABLE = 3;
const ECHO = 8;
const TIME_EXCEEDED = 11;
const FRAGMENTATION_NEEDED = 4; // a code of UNREACHABLE
const IP_HEADER = 20;
const ICMP_HEADER = 8;
const NONCE_BYTES = 8;
const LARGEST_PACKET = 65_535;

// linux/in.h
const IPPROTO_IP = 0;
const IPPROTO_ICMP = 1;
const IP_MTU_DISCOVER = 10;
const IP_PMTUDISC_DONT = 0;
/** Don't Fragment on every packet, and no look at the path MTU that the kernel has learned: the path itself answers. */
const IP_PMTUDISC_PROBE = 3;

/** The shortest echo that can be told from another one: headers and nonce. */
export const SHORTEST_ECHO = IP_HEADER + ICMP_HEADER + NONCE_BYTES;

export interface EchoOptions {
  /** Length of the IPv4 packet in bytes, headers included: SHORTEST_ECHO … 65535. */
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
export async function openEcho(): Promise<EchoAccess> {
  let raw: RawSocketModule;
  try {
    ({ default: raw } = await import('raw-socket'));
  } catch (error) {
    const why = codeOf(error) === 'ERR_MODULE_NOT_FOUND' ? 'is not installed' : 'was not compiled';
    return { echo: null, reason: `the package raw-socket ${why}: run \`npm install raw-socket\`` };
  }
  try {
    const socket = raw.createSocket({ protocol: raw.Protocol.ICMP, bufferSize: LARGEST_PACKET });
    return { echo: new Echo(raw, socket), reason: null };
  } catch (error) {
    return {
      echo: null,
      reason: `cannot open a raw socket (${messageOf(error)}): run as root or grant CAP_NET_RAW`,
    };
  }
}

/** One raw ICMP socket. It receives what the whole host receives, hence id, sequence number and nonce. */
export class Echo {
  private readonly id = randomInt(0x10000);
  private readonly inFlight = new Map<number, InFlight>();
  private sequence = 0;
  private closed: string | null = null;

  constructor(
    private readonly raw: RawSocketModule,
    private readonly socket: Socket,
  ) {
    socket.on('message', (packet, source) => {
      this.received(packet, source);
    });
    socket.on('error', (error) => {
      this.end(messageOf(error));
    });
  }

  /** One echo; it never rejects. */
  ping(ip: Ip4, { size, dontFragment, timeoutMs }: EchoOptions): Promise<EchoResult> {
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
        address: formatIp4(ip),
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
    const request = Buffer.alloc(Math.max(size, SHORTEST_ECHO) - IP_HEADER);
    request.writeUInt8(ECHO, 0);
    request.writeUInt16BE(this.id, 4);
    request.writeUInt16BE(sequence, 6);
    randomBytes(NONCE_BYTES).copy(request, ICMP_HEADER);
    this.raw.writeChecksum(request, 2, this.raw.createChecksum(request));
    return request;
  }

  private send(entry: InFlight, dontFragment: boolean): void {
    const discovery = dontFragment ? IP_PMTUDISC_PROBE : IP_PMTUDISC_DONT;
    const before = () => {
      this.socket.setOption(IPPROTO_IP, IP_MTU_DISCOVER, discovery);
      entry.sentAt = performance.now();
    };
    const done = (error: Error | null) => {
      if (error !== null) entry.settle(refusedHere(error));
    };
    this.socket.send(entry.request, 0, entry.request.length, entry.address, before, done);
  }

  private received(packet: Buffer, source: string): void {
    const now = performance.now();
    const message = icmpOf(packet);
    if (message?.[0] === ECHO_REPLY) {
      const entry = this.find(message);
      if (entry?.address !== source) return;
      const nonce = entry.request.subarray(ICMP_HEADER, ICMP_HEADER + NONCE_BYTES);
      if (!message.subarray(ICMP_HEADER, ICMP_HEADER + NONCE_BYTES).equals(nonce)) return;
      entry.settle({ outcome: 'reply', rttMs: now - entry.sentAt });
    } else if (message?.[0] === UNREACHABLE || message?.[0] === TIME_EXCEEDED) {
      // Routers return at least the IP header and 8 bytes of what they dropped.
      const dropped = message.subarray(ICMP_HEADER);
      const echo = icmpOf(dropped);
      if (echo?.[0] !== ECHO) return;
      const entry = this.find(echo);
      if (entry?.address !== formatIp4(dropped.readUInt32BE(16))) return;
      entry.settle(refusedBy(message, source));
    }
  }

  private find(message: Buffer): InFlight | undefined {
    return message.readUInt16BE(4) === this.id ? this.inFlight.get(message.readUInt16BE(6)) : undefined;
  }
}

/** The ICMP message in an IPv4 packet that holds at least its header. */
function icmpOf(packet: Buffer): Buffer | null {
  if (packet.length < IP_HEADER || packet[9] !== IPPROTO_ICMP) return null;
  const message = packet.subarray((packet.readUInt8(0) & 0x0f) * 4);
  return message.length >= ICMP_HEADER ? message : null;
}

function refusedBy(message: Buffer, router: string): EchoResult {
  const [type, code] = message;
  if (type === TIME_EXCEEDED)
    return { outcome: 'unreachable', reason: `${router}: the time to live ran out` };
  if (code !== FRAGMENTATION_NEEDED)
    return { outcome: 'unreachable', reason: `${router}: unreachable, code ${code ?? 0}` };
  const mtu = message.readUInt16BE(6); // RFC 1191
  return { outcome: 'too big', mtu: mtu === 0 ? null : mtu };
}

/** The package passes on the text of an errno only. */
function refusedHere(error: Error): EchoResult {
  if (error.message === 'Message too long') return { outcome: 'too big', mtu: null };
  return { outcome: 'unreachable', reason: error.message };
}
