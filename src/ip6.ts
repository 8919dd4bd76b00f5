import { isIPv6 } from 'node:net';
import { parseIp4 } from './ip.js';

/** The canonical text of an IPv6 address. */
export type Ip6 = string;

/**
 * The canonical text of an IPv6 address without a zone (RFC 5952, but hexadecimal throughout, as Go prints every
 * address that is not IPv4-mapped), or undefined.
 */
export function canonicalIp6(text: string): Ip6 | undefined {
  const dotted = /(?<=:)\d+\.\d+\.\d+\.\d+$/.exec(text)?.[0];
  if (dotted !== undefined) {
    const v4 = parseIp4(dotted);
    if (v4 === undefined) return undefined;
    const words = `${(v4 >>> 16).toString(16)}:${(v4 & 0xffff).toString(16)}`;
    return canonicalIp6(text.slice(0, -dotted.length) + words);
  }
  if (!isIPv6(text) || text.includes('%')) return undefined;
  const [head, tail] = text.split('::').map((part) => (part === '' ? [] : part.split(':')));
  const given = [...(head ?? []), ...(tail ?? [])];
  const zeros = Array<string>(8 - given.length).fill('0');
  const words = [...(head ?? []), ...zeros, ...(tail ?? [])];
  return compress(words.map((word) => Number.parseInt(word, 16).toString(16)).join(':'));
}

/** Of 16 bytes in network order. */
export function ip6FromBytes(bytes: Uint8Array): Ip6 {
  const words: string[] = [];
  for (let at = 0; at < 16; at += 2)
    words.push((((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)).toString(16));
  return compress(words.join(':'));
}

/** In network order. */
export function ip6ToBytes(ip: Ip6): Uint8Array {
  const [head = '', tail] = ip.split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const bytes = new Uint8Array(16);
  const put = (words: readonly string[], at: number) => {
    for (const [i, word] of words.entries())
      bytes.set([Number.parseInt(word, 16) >> 8, Number.parseInt(word, 16)], at + 2 * i);
  };
  put(front, 0);
  put(back, 16 - 2 * back.length);
  return bytes;
}

/** 0 … 2^128 - 1, in the order of the addresses. */
export function ip6ToNumber(ip: Ip6): bigint {
  return ip6ToBytes(ip).reduce((number, byte) => (number << 8n) | BigInt(byte), 0n);
}

export function ip6FromNumber(number: bigint): Ip6 {
  return ip6FromBytes(
    Uint8Array.from({ length: 16 }, (_, i) => Number((number >> BigInt(120 - 8 * i)) & 0xffn)),
  );
}

/** Whether the first `length` bits of two addresses are the same. */
export function sharePrefix6(a: Ip6, b: Ip6, length: number): boolean {
  const [left, right] = [ip6ToBytes(a), ip6ToBytes(b)];
  for (let bit = 0; bit < length; bit++) {
    if ((((left[bit >> 3] ?? 0) ^ (right[bit >> 3] ?? 0)) & (0x80 >> (bit & 7))) !== 0) return false;
  }
  return true;
}

/** An IPv6 address with a prefix length; `ip` may carry host bits until `network()` drops them. */
export class Cidr6 {
  constructor(
    readonly ip: Ip6,
    readonly length: number,
  ) {}

  /** `address/len`, host bits allowed, or undefined. */
  static parse(text: string): Cidr6 | undefined {
    const [, address = '', digits = ''] = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text) ?? [];
    const ip = canonicalIp6(address);
    return ip === undefined || Number(digits) > 128 ? undefined : new Cidr6(ip, Number(digits));
  }

  /** The same prefix without host bits. */
  network(): Cidr6 {
    const bytes = ip6ToBytes(this.ip).map((byte, i) => {
      const kept = Math.min(8, Math.max(0, this.length - 8 * i));
      return byte & (0xff00 >> kept);
    });
    return new Cidr6(ip6FromBytes(bytes), this.length);
  }

  contains(ip: Ip6): boolean {
    return sharePrefix6(ip, this.ip, this.length);
  }

  overlaps(other: Cidr6): boolean {
    return this.length <= other.length ? this.contains(other.ip) : other.contains(this.ip);
  }

  equals(other: Cidr6): boolean {
    return this.ip === other.ip && this.length === other.length;
  }

  /** `address/len` with any `separator` in place of the slash. */
  toString(separator = '/'): string {
    return `${this.ip}${separator}${this.length}`;
  }
}

/** `::` in place of the longest run of two or more zero words; the first one where several are as long. */
function compress(full: string): string {
  let at = 0;
  let longest = '';
  for (const { 0: run, index } of full.matchAll(/\b0(?::0)+\b/g)) {
    if (run.length > longest.length) [at, longest] = [index, run];
  }
  if (longest === '') return full;
  const before = full.slice(0, at).replace(/:$/, '');
  return `${before}::${full.slice(at + longest.length).replace(/^:/, '')}`;
}
