import type { NetworkConfig } from '../config.js';
import { Cidr4, formatIp4 } from '../ip.js';
import { Cidr6, ip6FromNumber, ip6ToNumber, readWords } from '../ip6.js';

/** Which subnets of a space a prefix overlaps: `from` up to and without `to`. Either may lie outside of the space. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/**
 * The subnets of one family that a network hands out, in order and numbered from 0. A number is exact up to 2^53, which
 * is more than are ever looked at.
 */
export interface SubnetSpace<Prefix> {
  /** How many there are. */
  readonly size: number;
  spanOf(prefix: Prefix): Span;
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
    spanOf({ ip, length }) {
      const size = SIZES[length] ?? 1;
      const first = ip - (ip % size);
      return {
        from: Math.floor((first - subnetMin) / step),
        to: Math.floor((first + size - 1 - subnetMin) / step) + 1,
      };
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
  const origin = new Uint32Array(4);
  readWords(ipv6SubnetMin, origin);
  // What one in each word is worth in subnets. Without host bits every term is whole, so the sum is as exact as it is small.
  const worth = [96, 64, 32, 0].map((bit) => 2 ** (bit - 128 + subnetLen));
  const words = new Uint32Array(4);
  return {
    size: min > max ? 0 : Number((max - min) / step + 1n),
    spanOf({ ip, length }) {
      readWords(ip, words);
      const kept = Math.min(length, subnetLen);
      let from = 0;
      for (let i = 0; i < 4; i++) {
        from += (keepBits(words[i] ?? 0, kept - 32 * i) - (origin[i] ?? 0)) * (worth[i] ?? 0);
      }
      return { from, to: from + 2 ** (subnetLen - kept) };
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
