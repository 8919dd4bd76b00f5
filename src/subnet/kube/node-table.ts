import { formatSubnetKey } from '../../lease/subnet-key.js';
import type { StoredLease } from '../../lease/lease.js';
import { log } from '../../log.js';
import type { LeaseEvent } from '../manager.js';

/** A node and the lease that it stands for, or why it stands for none; null where it does not claim to. */
export interface NodeEntry {
  readonly name: string;
  readonly lease: StoredLease | null;
  readonly problem: string | null;
}

/** The leases of the other nodes, by node: turns what happens to nodes into what happens to subnets. */
export class NodeTable {
  private leases = new Map<string, StoredLease>();
  /** What was complained about, by node. */
  private problems = new Map<string, string>();

  /** @param ownKey the subnet that is ours whatever other nodes claim; null while it is not known */
  constructor(private readonly ownKey: () => string | null) {}

  /** Replaces all; the leases, one a subnet. */
  replace(entries: readonly NodeEntry[]): StoredLease[] {
    const problemsBefore = this.problems;
    this.problems = new Map();
    this.leases = new Map();
    for (const entry of entries) {
      const lease = this.checked(entry, problemsBefore);
      if (lease !== null) this.leases.set(entry.name, lease);
    }
    return [
      ...new Map([...this.leases.values()].map((lease) => [formatSubnetKey(lease.subnet), lease])).values(),
    ];
  }

  put(entry: NodeEntry): LeaseEvent[] {
    const lease = this.checked(entry, this.problems);
    if (lease === null) return this.forget(entry.name);
    const before = this.leases.get(entry.name);
    this.leases.set(entry.name, lease);
    const moved = before !== undefined && formatSubnetKey(before.subnet) !== formatSubnetKey(lease.subnet);
    return [...(moved ? this.freed(before) : []), { type: 'put', lease }];
  }

  delete(name: string): LeaseEvent[] {
    this.problems.delete(name);
    return this.forget(name);
  }

  private forget(name: string): LeaseEvent[] {
    const before = this.leases.get(name);
    this.leases.delete(name);
    return before === undefined ? [] : this.freed(before);
  }

  /** A subnet that a node no longer has may be another's already. */
  private freed({ subnet }: StoredLease): LeaseEvent[] {
    const key = formatSubnetKey(subnet);
    for (const lease of this.leases.values()) {
      if (formatSubnetKey(lease.subnet) === key) return [{ type: 'put', lease }];
    }
    return [{ type: 'delete', subnet }];
  }

  /** The lease of an entry, or null after a warning, once, where there should be one. */
  private checked(
    { name, lease, problem }: NodeEntry,
    before: ReadonlyMap<string, string>,
  ): StoredLease | null {
    const isOurs = lease !== null && formatSubnetKey(lease.subnet) === this.ownKey();
    const text = isOurs ? "it has this node's pod CIDR" : problem;
    if (text === null) {
      this.problems.delete(name);
      return lease;
    }
    if (before.get(name) !== text) log.warning(`no packets to the node ${name}: ${text}`);
    this.problems.set(name, text);
    return null;
  }
}
