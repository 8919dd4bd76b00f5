import type { NetworkConfig } from '../config.js';
import { LeaseError } from '../errors.js';
import { Cidr4, formatIp4 } from '../ip.js';
import { v4SubnetsOf } from './lease.js';
import type { LeaseSubnet } from './lease.js';

/** How many free subnets the dice choose from: enough that hosts which start together seldom collide. */
const MOST_CANDIDATES = 100;

/** Among used subnets, this part of them, those that expired first, is what the dice choose from. */
const OLDEST_PART = 0.25;

/** The part of the network config that says which subnets there are. */
export type SubnetRange = Pick<NetworkConfig, 'subnetMin' | 'subnetMax' | 'subnetLen'>;

/** A lease that has run out, and when; in any unit that orders. */
export interface UsedSubnet {
  readonly subnet: LeaseSubnet;
  readonly since: number;
}

/** Whether a host may hold `subnet` under this config. A dual-stack lease may not: only IPv4 is allocated. */
export function isCompatible(subnet: LeaseSubnet, range: SubnetRange): boolean {
  const { v4, v6 } = subnet;
  return (
    v6 === null &&
    v4 !== null &&
    v4.length === range.subnetLen &&
    v4.equals(v4.network()) &&
    v4.ip >= range.subnetMin &&
    v4.ip <= range.subnetMax
  );
}

/**
 * The first free subnets, lowest first, from `subnetMin` to `subnetMax` inclusive.
 * @param taken in any order, of any size; they may overlap each other
 * @param most how many to find at most
 */
export function freeSubnets(range: SubnetRange, taken: readonly Cidr4[], most = MOST_CANDIDATES): Cidr4[] {
  // Addresses are plain numbers here, not wrapped to 32 bits: beyond 255.255.255.255 they still compare right.
  const step = SIZES[range.subnetLen] ?? 0;
  const free: Cidr4[] = [];
  for (let base = range.subnetMin; base <= range.subnetMax && free.length < most; base += WINDOW * step) {
    const isTaken = markTaken(taken, base, step, Math.min(WINDOW, (range.subnetMax - base) / step + 1));
    for (let i = isTaken.indexOf(0); i >= 0 && free.length < most; i = isTaken.indexOf(0, i + 1)) {
      free.push(new Cidr4(base + i * step, range.subnetLen));
    }
  }
  return free;
}

/** How many subnets there are, and how many of them nothing in `taken` overlaps. */
export function countSubnets(
  range: SubnetRange,
  taken: readonly Cidr4[],
): { readonly all: number; readonly free: number } {
  const step = SIZES[range.subnetLen] ?? 1;
  const all = Math.max(0, Math.floor((range.subnetMax - range.subnetMin) / step) + 1);
  const spans = taken.map((cidr) => spanOf(cidr, range.subnetMin, step, all)).sort((a, b) => a.from - b.from);
  let free = all;
  let end = 0;
  for (const { from, to } of spans) {
    free -= Math.max(0, to - Math.max(from, end));
    end = Math.max(end, to);
  }
  return { all, free };
}

/** Which of the `count` subnets of `step` addresses from `base` on a prefix overlaps: `from` up to and without `to`. */
function spanOf(
  { ip, length }: Cidr4,
  base: number,
  step: number,
  count: number,
): { from: number; to: number } {
  const size = SIZES[length] ?? 0;
  const first = ip - (ip % size);
  return {
    from: Math.max(0, Math.floor((first - base) / step)),
    to: Math.min(count, Math.floor((first + size - 1 - base) / step) + 1),
  };
}

/** How many subnets are looked at together, each as a byte. */
const WINDOW = 1 << 20;

/** How many addresses a prefix of each length holds. */
const SIZES = Array.from({ length: 33 }, (_, length) => 2 ** (32 - length));

/** Which of the `count` subnets of `step` addresses from `base` on are taken, be it in part. */
function markTaken(taken: readonly Cidr4[], base: number, step: number, count: number): Uint8Array {
  const isTaken = new Uint8Array(count);
  for (const cidr of taken) {
    const { from, to } = spanOf(cidr, base, step, count);
    if (to - from === 1) isTaken[from] = 1;
    else if (to > from) isTaken.fill(1, from, to);
  }
  return isTaken;
}

/**
 * A subnet for a host that had none. One that was never used, as far as is known: one of the first free ones, each as
 * likely as the others. Else one of those that have been out of use for longest, so that packets and caches that
 * still know its former host have had the most time to go.
 * @param random gives numbers in [0, 1)
 * @param used leases that have run out
 * @throws LeaseError when none is free.
 */
export function chooseSubnet(
  range: SubnetRange,
  taken: readonly Cidr4[],
  random: () => number,
  used: readonly UsedSubnet[] = [],
): Cidr4 {
  const usedOnes = v4SubnetsOf(used.map(({ subnet }) => subnet));
  const unused = freeSubnets(range, used.length === 0 ? taken : [...taken, ...usedOnes]);
  const candidates = unused.length > 0 || used.length === 0 ? unused : longestUnused(range, taken, used);
  const chosen = candidates[Math.floor(random() * candidates.length)];
  if (chosen === undefined) throw outOfSubnets(range, taken);
  return chosen;
}

/** The free subnets whose last use is longest ago. A lease of another size counts for each subnet that it touches. */
function longestUnused(range: SubnetRange, taken: readonly Cidr4[], used: readonly UsedSubnet[]): Cidr4[] {
  const step = 2 ** (32 - range.subnetLen);
  const free = freeSubnets(range, taken, Infinity);
  const lastUse = new Map(free.map(({ ip }) => [ip, -Infinity]));
  for (const { subnet, since } of used) {
    if (subnet.v4 === null) continue;
    const first = Math.max(subnet.v4.network().ip, range.subnetMin);
    const last = Math.min(subnet.v4.last(), range.subnetMax);
    for (let ip = first - (first % step); ip <= last; ip += step) {
      const known = lastUse.get(ip);
      if (known !== undefined && known < since) lastUse.set(ip, since);
    }
  }
  const age = ({ ip }: Cidr4) => lastUse.get(ip) ?? 0;
  free.sort((a, b) => age(a) - age(b));
  return free.slice(0, Math.min(MOST_CANDIDATES, Math.ceil(free.length * OLDEST_PART)));
}

function outOfSubnets(range: SubnetRange, taken: readonly Cidr4[]): LeaseError {
  const { subnetMin, subnetMax, subnetLen } = range;
  const step = 2 ** (32 - subnetLen);
  const count = Math.max(0, Math.floor((subnetMax - subnetMin) / step) + 1);
  const inside = taken.filter((cidr) => cidr.last() >= subnetMin && cidr.network().ip < subnetMax + step);
  return new LeaseError(
    `out of subnets: ${inside.length} leases take all ${count} subnets /${subnetLen} from ` +
      `${formatIp4(subnetMin)} to ${formatIp4(subnetMax)}; widen Network or SubnetMin and SubnetMax in the ` +
      'network config, or delete the leases of hosts that are gone',
  );
}
