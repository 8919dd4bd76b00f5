import type { NetworkConfig } from '../config.js';
import { LeaseError } from '../errors.js';
import { Cidr4, formatIp4 } from '../ip.js';
import type { LeaseSubnet } from './lease.js';

/** How many free subnets the dice choose from: enough that hosts which start together seldom collide. */
const MOST_CANDIDATES = 100;

/** The part of the network config that says which subnets there are. */
export type SubnetRange = Pick<NetworkConfig, 'subnetMin' | 'subnetMax' | 'subnetLen'>;

/** Whether a host may hold `subnet` under this config. A dual-stack lease may not: only IPv4 is allocated. */
export function isCompatible(subnet: LeaseSubnet, range: SubnetRange): boolean {
  const { v4, v6 } = subnet;
  return (
    v6 === null &&
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
  const step = 2 ** (32 - range.subnetLen);
  const occupied = taken
    .map((cidr) => ({ first: cidr.network().ip, last: cidr.last() }))
    .sort((a, b) => a.first - b.first);
  const free: Cidr4[] = [];
  let next = 0;
  for (let ip = range.subnetMin; ip <= range.subnetMax && free.length < most;) {
    let blockedTo = -1;
    for (
      let other = occupied[next];
      other !== undefined && other.first < ip + step;
      other = occupied[++next]
    ) {
      blockedTo = Math.max(blockedTo, other.last);
    }
    if (blockedTo < ip) {
      free.push(new Cidr4(ip, range.subnetLen));
      ip += step;
    } else {
      ip += Math.floor((blockedTo - ip) / step + 1) * step;
    }
  }
  return free;
}

/**
 * One of the first free subnets, each as likely as the others.
 * @param random gives numbers in [0, 1)
 * @throws LeaseError when none is free.
 */
export function chooseSubnet(range: SubnetRange, taken: readonly Cidr4[], random: () => number): Cidr4 {
  const free = freeSubnets(range, taken);
  const chosen = free[Math.floor(random() * free.length)];
  if (chosen === undefined) throw outOfSubnets(range, taken);
  return chosen;
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
