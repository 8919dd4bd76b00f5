import { log } from '../log.js';
import type { SubnetManager } from '../subnet/manager.js';
import { formatPublicIp } from './identity.js';
import type { LeaseKeeper } from './keeper.js';
import { formatSubnet } from './lease.js';
import type { Lease, OwnLease } from './lease.js';
import { TablePublisher } from './publisher.js';
import { formatSubnetKey } from './subnet-key.js';
import { LeaseTracker } from './tracker.js';

const LINES_AT_ONCE = 100;

/** Where the leases of the other hosts go. */
export interface PeerTable {
  /** Replaces all peers that were set before. */
  setPeers(peers: readonly Lease[]): void;
  /** Changes some of them; false, and nothing has changed, when only all of them can tell the outcome. */
  changePeers(put: readonly Lease[], removed: readonly Lease[]): boolean;
}

/**
 * Keeps `table` equal to the store's leases without the own one, and tells the keeper what becomes of that.
 * Resolves when `signal` fires.
 * @param tracker holds the leases, for others to look at
 * @throws whatever the table or the watch throws.
 */
export async function followLeases(
  manager: Pick<SubnetManager, 'watchLeases'>,
  own: OwnLease,
  table: PeerTable,
  keeper: Pick<LeaseKeeper, 'observe' | 'observeDouble' | 'owns'>,
  signal: AbortSignal,
  tracker = new LeaseTracker(formatSubnetKey(own.subnet)),
): Promise<void> {
  log.info('Watching for new subnet leases');
  const pending = new PendingChanges();
  const lines = new LinesAfterwards(signal);
  let first = true; // an empty table is news, too
  const publisher = new TablePublisher(() => {
    const { put, removed } = pending.take();
    if (first || !table.changePeers(put, removed)) table.setPeers(tracker.leases());
    first = false;
    lines.release();
  });
  const watch = async (): Promise<void> => {
    for await (const events of manager.watchLeases(signal)) {
      const { added, changed, removed, own: change } = tracker.apply(events);
      pending.add([...added, ...changed], removed);
      lines.add([...added, ...changed], ({ subnet, attrs }) => {
        log.info(`Subnet added: ${formatSubnet(subnet)} via ${formatPublicIp(attrs)}`);
      });
      lines.add(removed, ({ subnet }) => {
        log.info(`Subnet removed: ${formatSubnet(subnet)}`);
      });
      if (first || added.length + changed.length + removed.length > 0) publisher.request();
      if (change !== null) keeper.observe(change);
      const double = [...added, ...changed].find(({ attrs }) => keeper.owns(attrs));
      if (double !== undefined) keeper.observeDouble(double);
    }
  };
  await Promise.all([watch(), publisher.run(signal)]);
}

/** What has become of which lease since the table was last told. */
class PendingChanges {
  private put = new Map<string, Lease>();
  private removed = new Map<string, Lease>();

  add(put: readonly Lease[], removed: readonly Lease[]): void {
    for (const lease of removed) {
      const key = formatSubnetKey(lease.subnet);
      this.put.delete(key);
      this.removed.set(key, lease);
    }
    for (const lease of put) {
      const key = formatSubnetKey(lease.subnet);
      this.removed.delete(key);
      this.put.set(key, lease);
    }
  }

  take(): { readonly put: Lease[]; readonly removed: Lease[] } {
    const taken = { put: [...this.put.values()], removed: [...this.removed.values()] };
    this.put = new Map();
    this.removed = new Map();
    return taken;
  }
}

/**
 * Lines about leases, written once the table has what they tell of. Tens of thousands of them take a second or two: the
 * table, renewals and signals do not wait for that.
 */
class LinesAfterwards {
  /** Of what the table has not been told yet. */
  private early: (() => void)[] = [];
  private due: (() => void)[] = [];
  private writing = false;

  /** @param signal ends the writing */
  constructor(private readonly signal: AbortSignal) {}

  add(leases: readonly Lease[], write: (lease: Lease) => void): void {
    for (const lease of leases) {
      this.early.push(() => {
        write(lease);
      });
    }
  }

  /** The table has been told of all that was added so far. */
  release(): void {
    this.due = this.due.concat(this.early);
    this.early = [];
    if (!this.writing) void this.write();
  }

  private async write(): Promise<void> {
    this.writing = true;
    while (this.due.length > 0 && !this.signal.aborted) {
      for (const line of this.due.splice(0, LINES_AT_ONCE)) line();
      if (this.due.length > 0) await new Promise(setImmediate);
    }
    this.writing = false;
  }
}
