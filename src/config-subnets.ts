/** The part of the network config that says which subnets there are to hand out: its defaults and checks. */
import { ConfigError } from './errors.js';
import { Cidr4, formatIp4 } from './ip.js';
import type { Ip4 } from './ip.js';
import { ip6FromNumber, ip6ToNumber } from './ip6.js';
import type { Cidr6, Ip6 } from './ip6.js';

/** The IPv4 members; 0 stands for "not given", as in Go. */
export interface Ipv4Subnets {
  /** In network form; 0.0.0.0/0 when there is none. */
  readonly network: Cidr4;
  readonly subnetMin: Ip4;
  readonly subnetMax: Ip4;
  readonly subnetLen: number;
}

/** The IPv6 members; `::` and 0 stand for "not given". */
export interface Ipv6Subnets {
  /** In network form; null when there is none. */
  readonly ipv6Network: Cidr6 | null;
  readonly ipv6SubnetMin: Ip6;
  readonly ipv6SubnetMax: Ip6;
  readonly ipv6SubnetLen: number;
}

/** A family's members, with addresses as numbers. */
interface Subnets {
  readonly network: { readonly ip: bigint; readonly length: number };
  readonly min: bigint;
  readonly max: bigint;
  readonly length: number;
}

/** What messages call things, and what differs between the families. */
interface Family {
  readonly bits: number;
  /** What a host gets in a network that is large enough. */
  readonly usualLength: number;
  readonly networkKey: string;
  /** Of the keys. */
  readonly article: string;
  /** How flannel begins a sentence about the network. */
  readonly networkWord: string;
  readonly minKey: string;
  readonly maxKey: string;
  readonly lengthKey: string;
  format(ip: bigint): string;
}

const IPV4: Family = {
  bits: 32,
  usualLength: 24,
  networkKey: 'Network',
  article: 'a',
  networkWord: 'network',
  minKey: 'SubnetMin',
  maxKey: 'SubnetMax',
  lengthKey: 'SubnetLen',
  format: (ip) => formatIp4(Number(ip)),
};

const IPV6: Family = {
  bits: 128,
  usualLength: 64,
  networkKey: 'IPv6Network',
  article: 'an',
  networkWord: 'IPv6Network',
  minKey: 'IPv6SubnetMin',
  maxKey: 'IPv6SubnetMax',
  lengthKey: 'IPv6SubnetLen',
  format: ip6FromNumber,
};

/** @throws ConfigError */
export function completeIpv4(given: Ipv4Subnets): Ipv4Subnets {
  const { network, subnetMin, subnetMax, subnetLen } = given;
  if (network.ip === 0 && network.length === 0) throw withoutNetwork(IPV4, '10.5.0.0/16');
  const { min, max, length } = complete(IPV4, {
    network: { ip: BigInt(network.ip), length: network.length },
    min: BigInt(subnetMin),
    max: BigInt(subnetMax),
    length: subnetLen,
  });
  return { network, subnetMin: Number(min), subnetMax: Number(max), subnetLen: length };
}

/** @throws ConfigError */
export function completeIpv6(given: Ipv6Subnets): Ipv6Subnets {
  const { ipv6Network: network, ipv6SubnetMin, ipv6SubnetMax, ipv6SubnetLen } = given;
  if (network === null) throw withoutNetwork(IPV6, 'fd00:5::/48');
  const { min, max, length } = complete(IPV6, {
    network: { ip: ip6ToNumber(network.ip), length: network.length },
    min: ip6ToNumber(ipv6SubnetMin),
    max: ip6ToNumber(ipv6SubnetMax),
    length: ipv6SubnetLen,
  });
  return {
    ipv6Network: network,
    ipv6SubnetMin: ip6FromNumber(min),
    ipv6SubnetMax: ip6FromNumber(max),
    ipv6SubnetLen: length,
  };
}

function withoutNetwork({ networkKey }: Family, example: string): ConfigError {
  return new ConfigError(
    `please define a correct ${networkKey} parameter in the flannel config: expected an ` +
      `${networkKey === 'Network' ? 'IPv4' : 'IPv6'} network such as "${networkKey}":"${example}"`,
  );
}

/** In flannel's order: the first mistake is the one reported. */
function complete(family: Family, given: Subnets): Subnets {
  const { network } = given;
  const length = completeLength(family, given);
  const size = 1n << BigInt(family.bits - length);
  const end = network.ip + (1n << BigInt(family.bits - network.length));
  // The first subnet is left out by default: its network address is that of the whole network.
  const min = given.min === 0n ? network.ip + size : given.min;
  const max = given.max === 0n ? end - size : given.max;
  const bounds = Object.entries({ [family.minKey]: min, [family.maxKey]: max });
  for (const [key, ip] of bounds) {
    if (ip >= network.ip && ip < end) continue;
    throw new ConfigError(
      `${key} is not in the range of the ${family.networkKey}: ${key} is ${family.format(ip)}, expected an address ` +
        `from ${family.format(network.ip)} to ${family.format(end - 1n)}`,
    );
  }
  for (const [key, ip] of bounds) {
    const aligned = ip - (ip % size);
    if (ip === aligned) continue;
    throw new ConfigError(
      `${key} is not on a SubnetLen boundary: ${family.format(ip)}; expected the first address of a /${length}, ` +
        `such as ${family.format(aligned)}`,
    );
  }
  return { network, min, max, length };
}

function completeLength(family: Family, { network, length }: Subnets): number {
  const { bits, usualLength, article, networkKey, networkWord, lengthKey } = family;
  // A subnet has to hold a tunnel device and a bridge, and the network four subnets, of which one is left out.
  const longest = bits - 2;
  const longestNetwork = bits - 4;
  const shown = `${networkKey} is ${family.format(network.ip)}/${network.length}`;
  if (length === 0) {
    if (network.length > longestNetwork) {
      throw new ConfigError(
        `${networkWord} is too small. Minimum useful network prefix is /${longestNetwork}: ${shown}, expected a ` +
          `prefix length of at most ${longestNetwork} (or ${article} ${lengthKey})`,
      );
    }
    return Math.max(usualLength, network.length + 2);
  }
  const range =
    network.length > longestNetwork
      ? `${article} ${networkKey} of /${longestNetwork} or larger`
      : `${network.length + 2} to ${longest}`;
  const expected = `${lengthKey} is ${length}, expected ${range}; ${shown}`;
  if (length > longest) {
    throw new ConfigError(`SubnetLen must be less than /${longest + 1}: ${expected}`);
  }
  if (length < network.length + 2) {
    throw new ConfigError(`network must be able to accommodate at least four subnets: ${expected}`);
  }
  return length;
}
