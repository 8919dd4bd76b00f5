import type { Cidr } from '../../address.js';
import type { LeaseSubnet, StoredLease } from '../../lease/lease.js';
import { formatSubnetKey } from '../../lease/subnet-key.js';
import { log } from '../../log.js';
import type { LeaseEvent } from '../manager.js';

/** A node and the lease that it stands for, or why it stands for none; null where it does not claim to. */
export interface NodeEntry {
  readonly name: string;
  readonly lease: StoredLease | null;
  readonly problem: string | null;
}

/**
 * The leases of the other nodes, by node: turns what happens to nodes into what happens to subnets. Where nodes claim
 * one pod CIDR, it is in the lease of that which was the last to claim it, and the others' leases are without it.
 */
export class NodeTable {
  private claims = new Map<string, StoredLease>();
  /** The nodes that claim a pod CIDR, the last one to do so last. */
  private claimants = new Map<string, readonly string[]>();
  /** What was complained about, by node. */
  private problems = new Map<string, string>();

  /** @param own the pod CIDRs that are ours whatever other nodes claim; null while they are not known */
  constructor(private readonly own: () => LeaseSubnet | null) {}

  /** Replaces all; the leases, of which no two have a pod CIDR in common. */
  replace(entries: readonly NodeEntry[]): StoredLease[] {
    const problemsBefore = this.problems;
    this.problems = new Map();
    this.claims = new Map();
    this.claimants = new Map();
    for (const entry of entries) this.set(entry.name, this.checked(entry, problemsBefore));
    return [...this.claims.keys()].flatMap((name) => this.leaseOf(name) ?? []);
  }

  put(entry: NodeEntry): LeaseEvent[] {
    return this.change(entry.name, this.checked(entry, this.problems));
  }

  delete(name: string): LeaseEvent[] {
    this.problems.delete(name);
    return this.change(name, null);
  }

  /** What a new claim of a node, or its end, means to its subnet and to those of nodes that claim the same. */
  private change(name: string, claim: StoredLease | null): LeaseEvent[] {
    const before = this.claims.get(name);
    const prefixes = [...prefixesOf(before?.subnet), ...prefixesOf(claim?.subnet)];
    const concerned = new Set(prefixes.flatMap((prefix) => this.claimants.get(prefix) ?? []).concat(name));
    const leases = () => [...concerned].flatMap((each) => this.leaseOf(each) ?? []);
    const gone = new Map(leases().map(({ subnet }) => [formatSubnetKey(subnet), subnet]));
    this.set(name, claim);
    const puts = leases().map((lease) => ({ type: 'put', lease }) as const);
    for (const { lease } of puts) gone.delete(formatSubnetKey(lease.subnet));
    return [...[...gone.values()].map((subnet) => ({ type: 'delete', subnet }) as const), ...puts];
  }

  /** A pod CIDR that the node has claimed before keeps its place. */
  private set(name: string, claim: StoredLease | null): void {
    const before = prefixesOf(this.claims.get(name)?.subnet);
    const now = prefixesOf(claim?.subnet);
    const claimantsOf = (prefix: string) => this.claimants.get(prefix) ?? [];
    for (const prefix of before.filter((each) => !now.includes(each))) {
      const others = claimantsOf(prefix).filter((other) => other !== name);
      if (others.length === 0) this.claimants.delete(prefix);
      else this.claimants.set(prefix, others);
    }
    for (const prefix of now.filter((each) => !before.includes(each))) {
      this.claimants.set(prefix, [...claimantsOf(prefix), name]);
    }
    if (claim === null) this.claims.delete(name);
    else this.claims.set(name, claim);
  }

  /** What others have not claimed after it; null where that is nothing. */
  private leaseOf(name: string): StoredLease | null {
    const claim = this.claims.get(name) ?? null;
    return claim && only(claim, (cidr) => this.claimants.get(cidr.toString())?.at(-1) === name);
  }

  /** As much of an entry's lease as it may claim, after a warning, once, where that is not all. */
  private checked(entry: NodeEntry, before: ReadonlyMap<string, string>): StoredLease | null {
    const { name } = entry;
    const own = prefixesOf(this.own());
    const lease = entry.lease && only(entry.lease, (cidr) => !own.includes(cidr.toString()));
    const problem = lease === entry.lease ? entry.problem : "it has this node's pod CIDR";
    if (problem === null) {
      this.problems.delete(name);
      return lease;
    }
    const lost = lease === null ? '' : lease.subnet.v4 === null ? 'IPv4 ' : 'IPv6 ';
    const text = `no ${lost}packets to the node ${name}: ${problem}`;
    if (before.get(name) !== text) log.warning(text);
    this.problems.set(name, text);
    return lease;
  }
}

/** Texts of a subnet's pod CIDRs. */
function prefixesOf(subnet: LeaseSubnet | null | undefined): string[] {
  return [subnet?.v4, subnet?.v6].flatMap((cidr) => cidr?.toString() ?? []);
}

/** A lease without the pod CIDRs that are not wanted; null where that is nothing. */
function only(lease: StoredLease, isWanted: (cidr: Cidr) => boolean): StoredLease | null {
  const { v4, v6 } = lease.subnet;
  const subnet = { v4: v4 !== null && isWanted(v4) ? v4 : null, v6: v6 !== null && isWanted(v6) ? v6 : null };
  if (subnet.v4 === v4 && subnet.v6 === v6) return lease;
  return subnet.v4 === null && subnet.v6 === null ? null : { ...lease, subnet };
}
