/**
 * The bytes of rtnetlink messages (netlink(7), rtnetlink(7)): a fixed header of the family, then attributes of
 * type, length and value, each padded to 4 bytes. Numbers are in the host's byte order.
 */
import { endianness } from 'node:os';
import type { Ip } from '../address.js';
import { ip6FromBytes, ip6ToBytes } from '../ip6.js';
import type { Ip6 } from '../ip6.js';

const LITTLE = endianness() === 'LE';
const NLMSG_HEADER = 16;
const ATTRIBUTE_HEADER = 4;
const TYPE_MASK = 0x3fff; // without NLA_F_NESTED and NLA_F_NET_BYTEORDER

const padded = (length: number) => (length + 3) & ~3;

/** Builds one request. The socket fills in length, sequence and port id. */
export class MessageWriter {
  private bytes = new Uint8Array(256);
  private view = new DataView(this.bytes.buffer);
  private end: number;

  constructor(type: number, flags: number, familyHeader: Uint8Array) {
    this.view.setUint16(4, type, LITTLE);
    this.view.setUint16(6, flags, LITTLE);
    this.bytes.set(familyHeader, NLMSG_HEADER);
    this.end = padded(NLMSG_HEADER + familyHeader.length);
  }

  u32(type: number, value: number): this {
    const payload = new Uint8Array(4);
    new DataView(payload.buffer).setUint32(0, value, LITTLE);
    return this.attribute(type, payload);
  }

  /** An address, which is in network order everywhere. */
  ip(type: number, value: Ip): this {
    if (typeof value !== 'number') return this.attribute(type, ip6ToBytes(value));
    const payload = new Uint8Array(4);
    new DataView(payload.buffer).setUint32(0, value, false);
    return this.attribute(type, payload);
  }

  attribute(type: number, payload: Uint8Array): this {
    const length = ATTRIBUTE_HEADER + payload.length;
    this.view.setUint16(this.end, length, LITTLE);
    this.view.setUint16(this.end + 2, type, LITTLE);
    this.bytes.set(payload, this.end + ATTRIBUTE_HEADER);
    this.end += padded(length);
    return this;
  }

  finish(): Uint8Array {
    return this.bytes.subarray(0, this.end);
  }
}

/** One attribute by itself, as it stands inside another one. */
export function attribute(type: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(padded(ATTRIBUTE_HEADER + payload.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ATTRIBUTE_HEADER + payload.length, LITTLE);
  view.setUint16(2, type, LITTLE);
  bytes.set(payload, ATTRIBUTE_HEADER);
  return bytes;
}

/** The header of a family as a struct of `size` bytes that `fill` writes into. */
export function header(size: number, fill: (view: HostView) => void): Uint8Array {
  const bytes = new Uint8Array(size);
  fill(new HostView(bytes));
  return bytes;
}

/** Numbers in the host's byte order. */
export class HostView {
  private readonly view: DataView;

  constructor(bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u8(at: number): number {
    return this.view.getUint8(at);
  }
  u16(at: number): number {
    return this.view.getUint16(at, LITTLE);
  }
  u32(at: number): number {
    return this.view.getUint32(at, LITTLE);
  }
  setU8(at: number, value: number): void {
    this.view.setUint8(at, value);
  }
  setU32(at: number, value: number): void {
    this.view.setUint32(at, value, LITTLE);
  }
}

/** Attributes by their type. Those that reach beyond the bytes are left out. */
export class Attributes {
  private readonly values = new Map<number, Uint8Array>();

  constructor(bytes: Uint8Array, from = 0) {
    const view = new HostView(bytes);
    let at = from;
    while (at + ATTRIBUTE_HEADER <= bytes.length) {
      const length = view.u16(at);
      if (length < ATTRIBUTE_HEADER || at + length > bytes.length) break;
      this.values.set(view.u16(at + 2) & TYPE_MASK, bytes.subarray(at + ATTRIBUTE_HEADER, at + length));
      at += padded(length);
    }
  }

  bytes(type: number): Uint8Array | undefined {
    return this.values.get(type);
  }

  u8(type: number): number | undefined {
    const bytes = this.values.get(type);
    return bytes?.length === 1 ? bytes[0] : undefined;
  }

  u32(type: number): number | undefined {
    const bytes = this.values.get(type);
    return bytes?.length === 4 ? new HostView(bytes).u32(0) : undefined;
  }

  ip4(type: number): number | undefined {
    const bytes = this.values.get(type);
    if (bytes?.length !== 4) return undefined;
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, false);
  }

  ip6(type: number): Ip6 | undefined {
    const bytes = this.values.get(type);
    return bytes?.length === 16 ? ip6FromBytes(bytes) : undefined;
  }

  /** A zero-terminated string. */
  text(type: number): string | undefined {
    const bytes = this.values.get(type);
    return bytes && Buffer.from(bytes).toString('utf8').replace(/\0.*$/s, '');
  }

  /** The attributes inside another one. */
  nested(type: number): Attributes | undefined {
    const bytes = this.values.get(type);
    return bytes && new Attributes(bytes);
  }
}

/** One message of an answer, taken apart. */
export class Message extends Attributes {
  readonly type: number;
  /** The family's header. */
  readonly header: HostView;

  constructor(bytes: Uint8Array, familyHeaderSize: number) {
    super(bytes, padded(NLMSG_HEADER + familyHeaderSize));
    this.type = new HostView(bytes).u16(4);
    this.header = new HostView(bytes.subarray(NLMSG_HEADER, NLMSG_HEADER + familyHeaderSize));
  }
}
