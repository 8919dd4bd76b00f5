import type { LeaseEvent } from '../subnet/manager.js';
import { sameAttrs } from './lease.js';
import type { Lease, StoredLease } from './lease.js';
import { formatSubnetKey } from './subnet-key.js';

/**
 * What became of the own lease. A deletion carries the lease as last seen, if ever; `rewritten` is a new version that
 * says the same as the one before.
 */
export type OwnLeaseChange =
  | { readonly type: 'put' | 'rewritten'; readonly lease: StoredLease }
  | { readonly type: 'deleted'; readonly lease: StoredLease | null };

/** The net effect of a batch of events. A subnet appears in one list at most. */
export interface LeaseDiff {
  readonly added: readonly Lease[];
  /** With their new attributes. */
  readonly changed: readonly Lease[];
  /** With their last known attributes, which a delete event does not carry. */
  readonly removed: readonly Lease[];
  /** Null when nothing did happen to it. */
  readonly own: OwnLeaseChange | null;
}

/**
 * Turns watch events into differences between states. Pure: no I/O, no clock. A lease is identified by its subnet
 * key; the host's own lease is told apart from its peers'.
 */
export class LeaseTracker {
  private readonly peers = new Map<string, StoredLease>();
  /** The own entry as far as is known: 'expected' until it was seen for the first time, null once it is gone. */
  private own: StoredLease | 'expected' | null = 'expected';

  /** `ownKey`: the subnet key of the lease that this host holds, hence expects to see. */
  constructor(private readonly ownKey: string) {}

  /** The current leases of other hosts, more or less by address. */
  leases(): readonly Lease[] {
    return [...this.peers.values()];
  }

  /** How many those are. */
  get size(): number {
    return this.peers.size;
  }

  /** Takes in a batch. What happens and is undone within one batch leaves no trace in the difference. */
  apply(events: readonly LeaseEvent[]): LeaseDiff {
    const before = new Map<string, StoredLease | undefined>();
    const ownBefore = this.own;
    const set = (key: string, lease: StoredLease | undefined) => {
      if (key === this.ownKey) {
        this.own = lease ?? null;
        return;
      }
      if (!before.has(key)) before.set(key, this.peers.get(key));
      if (lease === undefined) this.peers.delete(key);
      else this.peers.set(key, lease);
    };
    for (const event of events) {
      if (event.type === 'put') {
        set(formatSubnetKey(event.lease.subnet), event.lease);
      } else if (event.type === 'delete') {
        set(formatSubnetKey(event.subnet), undefined);
      } else {
        for (const key of [...this.peers.keys(), this.ownKey]) set(key, undefined);
        for (const lease of inOrder(event.leases)) set(formatSubnetKey(lease.subnet), lease);
      }
    }
    return { ...this.peerChanges(before), own: ownChange(ownBefore, this.own) };
  }

  private peerChanges(before: ReadonlyMap<string, Lease | undefined>): Omit<LeaseDiff, 'own'> {
    const added: Lease[] = [];
    const changed: Lease[] = [];
    const removed: Lease[] = [];
    for (const [key, old] of before) {
      const now = this.peers.get(key);
      if (old === undefined) {
        if (now !== undefined) added.push(now);
      } else if (now === undefined) removed.push(old);
      else if (!sameAttrs(old.attrs, now.attrs)) changed.push(now);
    }
    return { added, changed, removed };
  }
}

/** By address, in which order a forwarding table is made fastest; etcd gives them in that of their text. */
function inOrder(leases: readonly StoredLease[]): StoredLease[] {
  return [...leases].sort((a, b) => (a.subnet.v4?.ip ?? 0) - (b.subnet.v4?.ip ?? 0));
}

type OwnState = StoredLease | 'expected' | null;

function ownChange(before: OwnState, now: OwnState): OwnLeaseChange | null {
  const seen = before === 'expected' ? null : before;
  if (now === 'expected' || before === now) return null;
  if (now === null) return { type: 'deleted', lease: seen };
  if (seen === null || !sameAttrs(seen.attrs, now.attrs)) return { type: 'put', lease: now };
  return seen.revision === now.revision ? null : { type: 'rewritten', lease: now };
}
