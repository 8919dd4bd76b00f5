import type { NetworkConfig } from '../config.js';
import { LeaseError } from '../errors.js';
import type { Cidr4 } from '../ip.js';
import { ip6ToNumber } from '../ip6.js';
import type { Cidr6 } from '../ip6.js';
import { countSubnets, freeSubnets } from './free-subnets.js';
import type { LeaseSubnet } from './lease.js';
import { ipv4Space, ipv6Space, Spans } from './subnet-space.js';
import type { SubnetSpace } from './subnet-space.js';

/** How many free subnets the dice choose from: enough that hosts which start together seldom collide. */
const MOST_CANDIDATES = 100;

/** Among used subnets, this part of them, those that expired first, is what the dice choose from. */
const OLDEST_PART = 0.25;
/** The most used subnets that are compared. */
const MOST_RANKED = 1 << 20;

/** The part of the network config that says which subnets there are. */
export type SubnetRange = Pick<
  NetworkConfig,
  | 'enableIPv4'
  | 'subnetMin'
  | 'subnetMax'
  | 'subnetLen'
  | 'enableIPv6'
  | 'ipv6SubnetMin'
  | 'ipv6SubnetMax'
  | 'ipv6SubnetLen'
>;

/** A lease that has run out, and when; in any unit that orders. */
export interface UsedSubnet {
  readonly subnet: LeaseSubnet;
  readonly since: number;
}

/** Whether a host may hold `subnet` under this config: a part for each family that is enabled, and no other. */
export function isCompatible({ v4, v6 }: LeaseSubnet, range: SubnetRange): boolean {
  return (
    (v4 === null ? !range.enableIPv4 : isCompatible4(v4, range)) &&
    (v6 === null ? !range.enableIPv6 : isCompatible6(v6, range))
  );
}

/** Whether it may be the IPv4 part of a host's subnet. */
export function isCompatible4(cidr: Cidr4, range: SubnetRange): boolean {
  return (
    range.enableIPv4 &&
    cidr.length === range.subnetLen &&
    cidr.equals(cidr.network()) &&
    cidr.ip >= range.subnetMin &&
    cidr.ip <= range.subnetMax
  );
}

/** Whether it may be the IPv6 part of a host's subnet. */
export function isCompatible6(cidr: Cidr6, range: SubnetRange): boolean {
  if (!range.enableIPv6 || cidr.length !== range.ipv6SubnetLen || !cidr.equals(cidr.network())) return false;
  const ip = ip6ToNumber(cidr.ip);
  return ip >= ip6ToNumber(range.ipv6SubnetMin) && ip <= ip6ToNumber(range.ipv6SubnetMax);
}

/**
 * How many hosts the network has subnets for, and how many more: those of the family that has fewer.
 * @param taken in any order, of any size
 */
export function countHosts(
  range: SubnetRange,
  taken: readonly LeaseSubnet[],
): { readonly all: number; readonly free: number } {
  const counts = [
    ...(range.enableIPv4 ? [countSubnets(ipv4Space(range), spansOf4(range, taken))] : []),
    ...(range.enableIPv6 ? [countSubnets(ipv6Space(range), spansOf6(range, taken))] : []),
  ];
  return {
    all: Math.min(...counts.map(({ all }) => all)),
    free: Math.min(...counts.map(({ free }) => free)),
  };
}

/**
 * A subnet for a host, each family by itself. One that was never used, as far as is known: one of the first free ones,
 * each as likely as the others. Else one of those that have been out of use for longest, so that packets and caches that
 * still know its former host have had the most time to go.
 *
 * One throw of the dice decides for both families. Hosts that choose from the same list at the same time then collide
 * in both or in none, and a collision in both is one of store keys, which the store itself decides.
 * @param taken in any order, of any size; they may overlap each other
 * @param random gives numbers in [0, 1)
 * @param used leases that have run out
 * @param kept what is settled already
 * @throws LeaseError when none is free.
 */
export function chooseSubnet(
  range: SubnetRange,
  taken: readonly LeaseSubnet[],
  random: () => number,
  used: readonly UsedSubnet[] = [],
  kept: LeaseSubnet = { v4: null, v6: null },
): LeaseSubnet {
  const dice = random();
  const usedOnes = used.map(({ subnet }) => subnet);
  let { v4, v6 } = kept;
  if (v4 === null && range.enableIPv4) {
    const since = used.filter(({ subnet }) => subnet.v4 !== null).map((lease) => lease.since);
    const former = { spans: spansOf4(range, usedOnes), since };
    v4 = choose(ipv4Space(range), spansOf4(range, taken), former, dice);
  }
  if (v6 === null && range.enableIPv6) {
    const since = used.filter(({ subnet }) => subnet.v6 !== null).map((lease) => lease.since);
    const former = { spans: spansOf6(range, usedOnes), since };
    v6 = choose(ipv6Space(range), spansOf6(range, taken), former, dice);
  }
  return { v4, v6 };
}

function spansOf4(range: SubnetRange, subnets: readonly LeaseSubnet[]): Spans {
  const space = ipv4Space(range);
  const spans = new Spans(subnets.length);
  for (const { v4 } of subnets) if (v4 !== null) space.addSpan(v4, spans);
  return spans;
}

function spansOf6(range: SubnetRange, subnets: readonly LeaseSubnet[]): Spans {
  const space = ipv6Space(range);
  const spans = new Spans(subnets.length);
  for (const { v6 } of subnets) if (v6 !== null) space.addSpan(v6, spans);
  return spans;
}

/** Leases that have run out, of one family. */
interface Former {
  readonly spans: Spans;
  /** Of each of them. */
  readonly since: readonly number[];
}

function choose<Prefix>(space: SubnetSpace<Prefix>, taken: Spans, former: Former, dice: number): Prefix {
  const unused = freeSubnets(space, [taken, former.spans], MOST_CANDIDATES);
  const candidates = unused.length > 0 ? unused : longestUnused(space, taken, former);
  const chosen = candidates[Math.floor(dice * candidates.length)];
  if (chosen === undefined) throw outOfSubnets(space, taken);
  return space.at(chosen);
}

/** The free subnets whose last use is longest ago. A lease of another size counts for each subnet that it touches. */
function longestUnused(space: SubnetSpace<unknown>, taken: Spans, { spans, since }: Former): number[] {
  const free = freeSubnets(space, [taken], MOST_RANKED);
  const lastUse = new Float64Array(free.length).fill(-Infinity);
  for (const [i, when] of since.entries()) {
    const end = spans.to[i] ?? 0;
    for (let at = firstAtLeast(free, spans.from[i] ?? 0); at < free.length && (free[at] ?? 0) < end; at++) {
      lastUse[at] = Math.max(lastUse[at] ?? 0, when);
    }
  }
  const byAge = [...free.keys()].sort((a, b) => (lastUse[a] ?? 0) - (lastUse[b] ?? 0));
  const oldest = Math.min(MOST_CANDIDATES, Math.ceil(free.length * OLDEST_PART));
  return byAge.slice(0, oldest).map((at) => free[at] ?? 0);
}

/** Where in a sorted list the first number stands that is not less than `bound`. */
function firstAtLeast(sorted: readonly number[], bound: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? 0) < bound) low = middle + 1;
    else high = middle;
  }
  return low;
}

function outOfSubnets({ size, description, keys }: SubnetSpace<unknown>, taken: Spans): LeaseError {
  const inside = taken.from.filter((from, i) => i < taken.length && from < size && (taken.to[i] ?? 0) > 0);
  return new LeaseError(
    `out of subnets: ${inside.length} leases take all ${size} subnets ${description}; widen ${keys} in the ` +
      'network config, or delete the leases of hosts that are gone',
  );
}
