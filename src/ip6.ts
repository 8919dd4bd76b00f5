import { isIPv6 } from 'node:net';
import { parseIp4 } from './ip.js';

/** RFC 8200, section 5: every link carries this much, be it in fragments that those below put together again. */
export const LEAST_IPV6_MTU = 1280;

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
  const words = new Uint32Array(4);
  readWords(ip, words);
  return Uint8Array.from({ length: 16 }, (_, i) => (words[i >> 2] ?? 0) >>> (24 - 8 * (i & 3)));
}

const COLON = 58;
const NINE = 57;

const groups = new Uint16Array(8);

/**
 * The address as four words of 32 bits, written to `words`. Character by character and without garbage, since there may
 * be tens of thousands to read at once.
 */
export function readWords(ip: Ip6, words: Uint32Array): void {
  let group = 0;
  let hasDigits = false;
  let count = 0;
  /** How many groups there are before `::`. */
  let gap = 8;
  for (let at = 0; at < ip.length; at++) {
    const code = ip.charCodeAt(at);
    if (code !== COLON) {
      group = group * 16 + (code <= NINE ? code - 48 : code - 87);
      hasDigits = true;
    } else if (hasDigits) {
      groups[count++] = group;
      group = 0;
      hasDigits = false;
    } else gap = count;
  }
  if (hasDigits) groups[count++] = group;
  const shift = 8 - count;
  const groupAt = (i: number): number => {
    if (i < gap) return groups[i] ?? 0;
    return i < gap + shift ? 0 : (groups[i - shift] ?? 0);
  };
  for (let i = 0; i < 4; i++) words[i] = groupAt(2 * i) * 0x10000 + groupAt(2 * i + 1);
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
  readWords(a, left);
  readWords(b, right);
  for (let i = 0; 32 * i < length; i++) {
    const ignored = Math.max(0, 32 * (i + 1) - length);
    if (((left[i] ?? 0) ^ (right[i] ?? 0)) >>> ignored !== 0) return false;
  }
  return true;
}

const left = new Uint32Array(4);
const right = new Uint32Array(4);

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
