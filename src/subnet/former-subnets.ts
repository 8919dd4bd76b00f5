/** Subnets that a host had before: which of them it can have again. The families are looked at one by one. */
import type { NetworkConfig } from '../config.js';
import { isCompatible4, isCompatible6 } from '../lease/allocate.js';
import { formatPublicIp } from '../lease/identity.js';
import { formatSubnet, overlap } from '../lease/lease.js';
import type { Lease, LeaseSubnet } from '../lease/lease.js';
import { log } from '../log.js';

/** As a LeaseSubnet; both are null where nothing is settled yet. */
export type SubnetParts = LeaseSubnet;

export const NOTHING: SubnetParts = { v4: null, v6: null };

/** `first`, and where it lacks a family what `second` has of it. */
export function orElse(first: SubnetParts, second: SubnetParts): SubnetParts {
  return { v4: first.v4 ?? second.v4, v6: first.v6 ?? second.v6 };
}

/** Whether there is a part for each family that the network has. */
export function isComplete({ v4, v6 }: SubnetParts, config: NetworkConfig): boolean {
  return (v4 !== null || !config.enableIPv4) && (v6 !== null || !config.enableIPv6);
}

/** What of `subnet` the config allows and nothing in `taken` overlaps. */
export function usableParts(
  subnet: SubnetParts,
  config: NetworkConfig,
  taken: readonly LeaseSubnet[],
): SubnetParts {
  return partsOf(subnet)
    .filter((part) => fits(part, config) && !taken.some((other) => overlap(other, part)))
    .reduce(orElse, NOTHING);
}

/**
 * The same for what this host had before it restarted; the log says why it does not get it.
 * @param others leases of other hosts
 * @param taken those, and what could not be had
 */
export function usablePrevious(
  previous: SubnetParts,
  config: NetworkConfig,
  others: readonly Lease[],
  taken: readonly LeaseSubnet[],
): SubnetParts {
  let usable = NOTHING;
  for (const part of partsOf(previous)) {
    const text = `the previous subnet ${formatSubnet(part)}`;
    const holder = others.find(({ subnet }) => overlap(subnet, part));
    if (holder !== undefined) {
      const host = formatPublicIp(holder.attrs);
      log.warning(`${text} now belongs to the host with public IP ${host}; taking another`);
    } else if (taken.some((other) => overlap(other, part))) {
      continue; // The log has said that, when it could not be had.
    } else if (!fits(part, config)) {
      log.error(`${text} does not fit the network config; taking another`);
    } else {
      log.info(`taking ${text} again`);
      usable = orElse(usable, part);
    }
  }
  return usable;
}

/** One for each family that there is. */
function partsOf({ v4, v6 }: SubnetParts): LeaseSubnet[] {
  return [...(v4 === null ? [] : [{ v4, v6: null }]), ...(v6 === null ? [] : [{ v4: null, v6 }])];
}

function fits({ v4, v6 }: LeaseSubnet, config: NetworkConfig): boolean {
  return (v4 === null || isCompatible4(v4, config)) && (v6 === null || isCompatible6(v6, config));
}
