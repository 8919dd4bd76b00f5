/**
 * IPv4 values. An address is an unsigned 32-bit number in host order (10.0.0.1 = 0x0a000001), so that masks,
 * ranges and table keys are plain arithmetic; text exists only at the edges.
 */
export type Ip4 = number;

const DOTTED = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/;

/** `a.b.c.d` without leading zeros (as Go's net.ParseIP), or undefined. */
export function parseIp4(text: string): Ip4 | undefined {
  const match = DOTTED.exec(text);
  if (match === null) return undefined;
  let value = 0;
  for (const part of match.slice(1)) {
    const octet = Number(part);
    if (octet > 255 || (part.length > 1 && part.startsWith('0'))) return undefined;
    value = value * 256 + octet;
  }
  return value;
}

export function formatIp4(ip: Ip4): string {
  return `${ip >>> 24}.${(ip >>> 16) & 255}.${(ip >>> 8) & 255}.${ip & 255}`;
}

/** The mask of a prefix length, 0 … 32. Shifting a 32-bit number by 32 is a no-op, hence the special case. */
export function maskOf(length: number): Ip4 {
  return length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0;
}

/** An address with a prefix length; `ip` may carry host bits until `network()` drops them. */
export class Cidr4 {
  constructor(
    readonly ip: Ip4,
    readonly length: number,
  ) {}

  /** `a.b.c.d/len`, host bits allowed, or undefined. */
  static parse(text: string): Cidr4 | undefined {
    const slash = text.indexOf('/');
    if (slash < 0) return undefined;
    const ip = parseIp4(text.slice(0, slash));
    const length = text.slice(slash + 1);
    if (ip === undefined || !/^(0|[1-9]\d?)$/.test(length) || Number(length) > 32) return undefined;
    return new Cidr4(ip, Number(length));
  }

  /** The same prefix without host bits. */
  network(): Cidr4 {
    return new Cidr4((this.ip & maskOf(this.length)) >>> 0, this.length);
  }

  /** The last address of the prefix. */
  last(): Ip4 {
    return (this.ip | ~maskOf(this.length)) >>> 0;
  }

  /** How many addresses the prefix holds. */
  size(): number {
    return 2 ** (32 - this.length);
  }

  contains(ip: Ip4): boolean {
    return ((ip ^ this.ip) & maskOf(this.length)) === 0;
  }

  overlaps(other: Cidr4): boolean {
    return this.length <= other.length ? this.contains(other.ip) : other.contains(this.ip);
  }

  equals(other: Cidr4): boolean {
    return this.ip === other.ip && this.length === other.length;
  }

  /** `a.b.c.d/len` with any `separator` in place of the slash. */
  toString(separator = '/'): string {
    return `${formatIp4(this.ip)}${separator}${this.length}`;
  }
}
