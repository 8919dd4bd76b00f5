import { messageOf } from '../errors.js';
import { systemClock } from '../clock.js';
import type { Clock } from '../clock.js';
import { log } from '../log.js';
import { redact } from '../logging/redact.js';

/** How a store is doing, as far as the calls to it have shown. */
export interface StoreHealth {
  /** False from the start until the store has answered, and from a failure until it answers again. */
  readonly reachable: boolean;
  /** Since when that is so: by this host's clock at that moment, in milliseconds since the epoch. */
  readonly since: number;
  /** How long it has been so, in milliseconds, whatever this host's clock was set to meanwhile. */
  readonly forMs: number;
  /** What the store, or the way to it, said last when it failed, without secrets; null when it never did. */
  readonly lastError: string | null;
  /** The store's revision that the lease table shows; null before the first table, or where a store has none. */
  readonly tableRevision: string | null;
  /** False until a first lease table has arrived. */
  readonly hasTable: boolean;
  /** Milliseconds since it answered last, be it that nothing is new; null before the first time. */
  readonly silentForMs: number | null;
}

/** Follows a store's outages and logs each as one line when it begins and one when it ends. */
export class StoreMonitor {
  private reachable = false;
  private since: number;
  private sinceMonotonic: number;
  private lastError: string | null = null;
  private tableRevision: string | null = null;
  private hasTable = false;
  /** By the monotonic clock. */
  private heardAt: number | null = null;
  /** An outage is one once the log has said so: until then the store has merely not been asked. */
  private told = false;

  /** @param store what it is, for the log, e.g. `etcd` */
  constructor(
    private readonly store: string,
    private readonly clock: Clock = systemClock,
  ) {
    this.since = clock.wallMs();
    this.sinceMonotonic = clock.monotonicMs();
  }

  get health(): StoreHealth {
    const { reachable, since, lastError, tableRevision, hasTable } = this;
    const now = this.clock.monotonicMs();
    const forMs = now - this.sinceMonotonic;
    const silentForMs = this.heardAt === null ? null : now - this.heardAt;
    return { reachable, since, forMs, lastError, tableRevision, hasTable, silentForMs };
  }

  /** A call failed that the caller tells its own caller about. */
  failed(error: unknown): void {
    this.lastError = redact(messageOf(error));
    if (this.reachable) this.turn(false);
  }

  /** A watch failed, which only the log can tell. */
  lost(error: unknown): void {
    const cause = messageOf(error);
    this.failed(error);
    if (this.told) {
      log.v(2).info(`${this.store} is still away: ${cause}`);
      return;
    }
    this.told = true;
    log.warning(`lost ${this.store} (${cause}); keeping the leases known so far and trying to reconnect`);
  }

  /** The store answered. */
  answered(): void {
    this.heardAt = this.clock.monotonicMs();
    if (this.reachable) return;
    if (this.told) {
      const seconds = Math.round((this.clock.monotonicMs() - this.sinceMonotonic) / 1000);
      const since = new Date(this.since).toISOString();
      log.info(`${this.store} is back; it was away for ${seconds} s, since ${since}`);
      this.told = false;
    }
    this.turn(true);
  }

  /** The lease table is that of `revision` now. */
  tableIs(revision: string | null): void {
    this.hasTable = true;
    this.tableRevision = revision;
  }

  private turn(reachable: boolean): void {
    this.reachable = reachable;
    this.since = this.clock.wallMs();
    this.sinceMonotonic = this.clock.monotonicMs();
  }
}
