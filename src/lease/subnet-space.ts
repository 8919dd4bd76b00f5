import type { NetworkConfig } from '../config.js';
import { Cidr4, formatIp4 } from '../ip.js';
import { Cidr6, ip6FromNumber, ip6ToNumber, readWords } from '../ip6.js';

/**
 * Which subnets of a space some prefixes overlap: each those from `from` up to and without `to`, which may lie outside
 * of the space. Two columns of numbers, since there may be tens of thousands to be made at once.
 */
export class Spans {
  readonly from: Float64Array;
  readonly to: Float64Array;
  length = 0;

  constructor(most: number) {
    this.from = new Float64Array(most);
    this.to = new Float64Array(most);
  }

  add(from: number, to: number): void {
    this.from[this.length] = from;
    this.to[this.length] = to;
    this.length++;
  }
}

/**
 * The subnets of one family that a network hands out, in order and numbered from 0. A number is exact up to 2^53, which
 * is more than are ever looked at.
 */
export interface SubnetSpace<Prefix> {
  /** How many there are. */
  readonly size: number;
  /** Adds the subnets that the prefix overlaps. */
  addSpan(prefix: Prefix, spans: Spans): void;
  at(index: number): Prefix;
  /** `/24 from 10.5.1.0 to 10.5.255.0`. */
  readonly description: string;
  /** The members of the network config to change for more of them. */
  readonly keys: string;
}

type Ipv4Range = Pick<NetworkConfig, 'subnetMin' | 'subnetMax' | 'subnetLen'>;
type Ipv6Range = Pick<NetworkConfig, 'ipv6SubnetMin' | 'ipv6SubnetMax' | 'ipv6SubnetLen'>;

/** How many addresses a prefix of each length holds. */
const SIZES = Array.from({ length: 33 }, (_, length) => 2 ** (32 - length));

export function ipv4Space({ subnetMin, subnetMax, subnetLen }: Ipv4Range): SubnetSpace<Cidr4> {
  // Addresses are plain numbers here, not wrapped to 32 bits: beyond 255.255.255.255 they still compare right.
  const step = SIZES[subnetLen] ?? 1;
  return {
    size: Math.max(0, (subnetMax - subnetMin) / step + 1),
    addSpan({ ip, length }, spans) {
      const size = SIZES[length] ?? 1;
      const offset = ip - (ip % size) - subnetMin;
      spans.add(Math.floor(offset / step), Math.floor((offset + size - 1) / step) + 1);
    },
    at: (index) => new Cidr4(subnetMin + index * step, subnetLen),
    description: `/${subnetLen} from ${formatIp4(subnetMin)} to ${formatIp4(subnetMax)}`,
    keys: 'Network or SubnetMin and SubnetMax',
  };
}

export function ipv6Space(range: Ipv6Range): SubnetSpace<Cidr6> {
  const { ipv6SubnetMin, ipv6SubnetMax, ipv6SubnetLen: subnetLen } = range;
  const [min, max] = [ip6ToNumber(ipv6SubnetMin), ip6ToNumber(ipv6SubnetMax)];
  const step = 1n << BigInt(128 - subnetLen);
  const words = new Uint32Array(4);
  readWords(ipv6SubnetMin, words);
  const [min0 = 0, min1 = 0, min2 = 0, min3 = 0] = words;
  // What one in each word is worth in subnets. Without host bits every term is whole, so the sum is as exact as it is small.
  const worth = (bit: number) => 2 ** (bit - 128 + subnetLen);
  const [worth0, worth1, worth2, worth3] = [worth(96), worth(64), worth(32), worth(0)];
  return {
    size: min > max ? 0 : Number((max - min) / step + 1n),
    addSpan({ ip, length }, spans) {
      readWords(ip, words);
      const kept = Math.min(length, subnetLen);
      const from =
        (keepBits(words[0] ?? 0, kept) - min0) * worth0 +
        (keepBits(words[1] ?? 0, kept - 32) - min1) * worth1 +
        (keepBits(words[2] ?? 0, kept - 64) - min2) * worth2 +
        (keepBits(words[3] ?? 0, kept - 96) - min3) * worth3;
      spans.add(from, from + (kept === subnetLen ? 1 : 2 ** (subnetLen - kept)));
    },
    at: (index) => new Cidr6(ip6FromNumber(min + BigInt(index) * step), subnetLen),
    description: `/${subnetLen} from ${ipv6SubnetMin} to ${ipv6SubnetMax}`,
    keys: 'IPv6Network or IPv6SubnetMin and IPv6SubnetMax',
  };
}

/** The first `count` bits of a word of 32. */
function keepBits(word: number, count: number): number {
  if (count >= 32) return word;
  return count <= 0 ? 0 : (word & (-1 << (32 - count))) >>> 0;
}
