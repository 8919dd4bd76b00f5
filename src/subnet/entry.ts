import { messageOf } from '../errors.js';
import { parseLeaseValue } from '../lease/lease-value.js';
import { overlap } from '../lease/lease.js';
import type { Lease, LeaseSubnet, StoredLease } from '../lease/lease.js';
import { formatSubnetKey, parseSubnetKey } from '../lease/subnet-key.js';
import { log } from '../log.js';

/** The lease that an entry's name and value make, or null after a warning that says what is wrong with them. */
export function decodeEntry(name: string, value: string): Lease | null {
  const subnet = decodeName(name);
  if (subnet === null) {
    log.warning(
      `skipping ${JSON.stringify(name)} among the subnets: not a subnet key; expected e.g. 10.5.1.0-24`,
    );
    return null;
  }
  try {
    return { subnet, attrs: parseLeaseValue(value) };
  } catch (error) {
    log.warning(`skipping the lease of ${name}: ${messageOf(error)}`);
    return null;
  }
}

/** Whether one of the entries of these names, other than its own, overlaps a subnet in either family. */
export function isOverlapped(subnet: LeaseSubnet, names: readonly string[]): boolean {
  const own = formatSubnetKey(subnet);
  return names.some((name) => {
    const other = name === own ? null : decodeName(name);
    return other !== null && overlap(other, subnet);
  });
}

function decodeName(name: string): LeaseSubnet | null {
  // Entries live directly below subnets/; `x/10.5.1.0-24` would be a second entry for one subnet.
  return name.includes('/') ? null : (parseSubnetKey(name) ?? null);
}

/**
 * The leases a watch has seen, by entry name. An entry whose value turns unreadable keeps its last good lease,
 * here and over resyncs, until it is mended or deleted: its owner still has the subnet and its peers still have
 * traffic for it.
 */
export class KnownLeases {
  private leases = new Map<string, StoredLease>();

  /** Replaces everything by these entries; null stands for one that cannot be read. */
  replace(entries: Iterable<readonly [string, StoredLease | null]>): StoredLease[] {
    const before = this.leases;
    this.leases = new Map();
    for (const [name, decoded] of entries) {
      const lease = decoded ?? before.get(name);
      if (lease !== undefined) this.leases.set(name, lease);
    }
    return [...this.leases.values()];
  }

  put(name: string, lease: StoredLease): void {
    this.leases.set(name, lease);
  }

  /** The subnet that `name` stood for; null when nobody was told of it. */
  delete(name: string): LeaseSubnet | null {
    const lease = this.leases.get(name);
    this.leases.delete(name);
    return lease?.subnet ?? null;
  }
}
