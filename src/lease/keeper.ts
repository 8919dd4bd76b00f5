import type { Clock } from '../clock.js';
import { systemClock } from '../clock.js';
import { FlannelError, messageOf } from '../errors.js';
import { log } from '../log.js';
import type { SubnetManager } from '../subnet/manager.js';
import { formatPublicIp, sameHost } from './identity.js';
import { sameAttrs } from './lease.js';
import type { Lease, LeaseAttrs, OwnLease, StoredLease } from './lease.js';
import { formatSubnetKey } from './subnet-key.js';
import type { OwnLeaseChange } from './tracker.js';

const MINUTE_MS = 60_000;

/** How long every lease holds: an expiration further away is a clock that was set back. */
const LIFETIME_MS = 86_400_000;

/** A renewal has the whole margin to succeed in; a lease that was taken away has nothing to lose. */
const RENEWAL_RETRY_MS = MINUTE_MS;
const CLAIM_RETRY_MS = 5_000;
/** Sooner while peers still send to where this host is no more. */
const ANNOUNCE_RETRY_MS = 2_000;

/** The clocks are looked at this often: a timer does not notice that the machine slept, or that a clock was set. */
const LOOK_MS = 30_000;

/** Another host with our public IP is reported, and told of us, at most this often. */
const RIVAL_EVERY_MS = MINUTE_MS;

/** A rival that everybody else has no report left for is told when its entry has stood for so long. */
const LEAST_QUIET_MS = 1_000;
const MOST_QUIET_MS = 3_000;

/** How many versions of our own writing are remembered: their events may come after the next one was written. */
const REMEMBERED_WRITES = 16;

/** When to renew, by either clock. */
interface Due {
  readonly wallMs: number;
  readonly monotonicMs: number;
}

/** The own lease and what becomes of it. */
export interface LeaseStatus {
  readonly lease: OwnLease;
  /** When it is to be renewed, in milliseconds since the epoch; null for a reservation. */
  readonly renewAt: number | null;
  /** Whether the store has it as this host's; while it does not, it is claimed again. */
  readonly held: boolean;
}

/**
 * Keeps the own lease alive. It renews it in time, by the clock that says so first; claims it again at once when it
 * was deleted; and watches for another daemon that announces the same public IP, with which it would share the
 * subnet. A store keeps one entry a subnet and tells hosts apart by their public IP only, so such a daemon takes the
 * entry for its own and rewrites it. Whoever sees a rewriting that is not his says so and rewrites the entry once,
 * which the other sees in turn: within seconds both logs name the conflict. Nobody reports twice in a minute, so the
 * last one of many to come may find that all others have said it just now. His entry is the one that stands, and
 * written by one who does not know: after a while, at random, somebody rewrites it, and that only tells.
 */
export class LeaseKeeper {
  private readonly changes: OwnLeaseChange[] = [];
  private readonly ownRevisions: string[] = [];
  private wake = new AbortController();
  /** What is to be announced; the lease's own attributes once the store has it. */
  private attrs: LeaseAttrs;
  private due: Due | null = null;
  /** Renew whatever the clocks say. */
  private dueNow = false;
  /** The entry is not ours at the moment. */
  private lost = false;
  /** When a rival was reported last, by the monotonic clock. */
  private reportedAt = -Infinity;
  /** A version whose writer may not know of us, and when to tell him, by the monotonic clock. */
  private untold: { readonly revision: string; readonly dueMs: number } | null = null;

  /** @param marginMs how long before its end the lease is renewed */
  constructor(
    private readonly manager: Pick<SubnetManager, 'renewLease' | 'touchLease'>,
    private lease: OwnLease,
    private readonly marginMs: number,
    private readonly clock: Clock = systemClock,
  ) {
    this.attrs = lease.attrs;
  }

  get status(): LeaseStatus {
    return { lease: this.lease, renewAt: this.due?.wallMs ?? null, held: !this.lost };
  }

  /** Where this host is has changed: tells its peers, with the same subnet. */
  announce(attrs: LeaseAttrs): void {
    if (sameAttrs(attrs, this.attrs)) return;
    this.attrs = attrs;
    this.reclaim();
  }

  /** Whether an entry with these attributes is this host's: as announced, or about to be. */
  owns(attrs: LeaseAttrs): boolean {
    return sameHost(attrs, this.lease.attrs) || sameHost(attrs, this.attrs);
  }

  /** Writes the own entry again now. */
  reclaim(): void {
    this.dueNow = true;
    this.wake.abort();
  }

  /** What the store says about the own entry, whoever has changed it. */
  observe(change: OwnLeaseChange): void {
    this.changes.push(change);
    this.wake.abort();
  }

  /** There is an entry beside the own one that names our public IP. Packets for its subnet come to this host. */
  observeDouble({ subnet }: Lease): void {
    const ip = formatPublicIp(this.lease.attrs);
    this.report(
      `the lease ${formatSubnetKey(subnet)} names this host's public IP ${ip} as well: another flanneld announces ` +
        'it, or the entry is left over from an earlier one; start each with an address of its own (--public-ip or ' +
        '--iface) or a port of its own (--udp-port), or delete the entry',
    );
  }

  /**
   * Resolves when `signal` fires.
   * @throws LeaseError when another host holds the subnet now.
   */
  async run(signal: AbortSignal): Promise<void> {
    this.hold(this.lease);
    while (await this.pause(signal)) {
      const change = this.changes.shift();
      try {
        const due = this.untilTold() <= 0 ? this.untold : null;
        if (change !== undefined || due !== null) this.untold = null;
        if (change !== undefined) this.lost = this.isLoss(change);
        if (change === undefined && due !== null) {
          await this.tell(due.revision, signal);
        } else if (change === undefined || this.lost) {
          this.dueNow = false;
          this.hold(await this.manager.renewLease(this.lease, signal, this.attrs));
          log.info(`Lease renewed, new expiration: ${describeExpiration(this.lease)}`);
        } else if (change.lease !== null) {
          await this.judge(change.lease, signal);
        }
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof FlannelError) || !error.retryable) throw error;
        const retryMs = this.retryMs();
        log.error(`Error renewing lease (trying again in ${retryMs / 1000} s): ${messageOf(error)}`);
        this.renewIn(retryMs);
      }
    }
  }

  private retryMs(): number {
    if (!sameAttrs(this.attrs, this.lease.attrs)) return ANNOUNCE_RETRY_MS;
    return this.lost ? CLAIM_RETRY_MS : RENEWAL_RETRY_MS;
  }

  /** Whether the entry has gone, or is another host's. */
  private isLoss(change: OwnLeaseChange): boolean {
    const key = formatSubnetKey(this.lease.subnet);
    if (change.type === 'deleted') {
      log.warning(`the own lease ${key} has been revoked; claiming it again`);
      return true;
    }
    const { attrs } = change.lease;
    if (this.owns(attrs)) return false;
    log.warning(`the own lease ${key} was taken by ${formatPublicIp(attrs)}`);
    return true;
  }

  /** Our entry, with our public IP: who has written it? */
  private async judge(seen: StoredLease, signal: AbortSignal): Promise<void> {
    if (this.ownRevisions.includes(seen.revision)) return;
    if (seen.reservation !== (this.lease.expiration === null)) {
      // Daemons keep the one what it is and the other too.
      log.info(
        `the own lease ${formatSubnetKey(seen.subnet)} has been made a ${seen.reservation ? 'reservation' : 'lease'}`,
      );
      const expiration = seen.reservation ? null : this.clock.wallMs();
      this.hold({ ...this.lease, expiration, revision: seen.revision });
      return;
    }
    if (seen.writer === 'here') return; // The process that takes over from this one.
    const ip = formatPublicIp(this.lease.attrs);
    const key = formatSubnetKey(seen.subnet);
    const reported = this.report(
      `another flanneld announces this host's public IP ${ip}: it has rewritten the lease ${key}, so both hosts ` +
        'use one subnet and lose packets to each other; start each with an address of its own (--public-ip or ' +
        '--iface) or a port of its own (--udp-port), or ignore this once if you have edited the entry by hand',
    );
    if (reported) {
      await this.tell(seen.revision, signal);
    } else if (seen.writer === 'elsewhere') {
      const quietMs = LEAST_QUIET_MS + Math.random() * (MOST_QUIET_MS - LEAST_QUIET_MS);
      this.untold = { revision: seen.revision, dueMs: this.clock.monotonicMs() + quietMs };
    }
  }

  /** On top of the version just seen and once: of many rivals one gets through, and all have been told by that. */
  private async tell(revision: string, signal: AbortSignal): Promise<void> {
    const told = await this.manager.touchLease({ ...this.lease, revision }, signal);
    if (told !== null) this.hold(told);
  }

  /** Milliseconds. */
  private untilTold(): number {
    return this.untold === null ? Infinity : this.untold.dueMs - this.clock.monotonicMs();
  }

  /** False when there was a report a short while ago. */
  private report(text: string): boolean {
    const now = this.clock.monotonicMs();
    if (now - this.reportedAt < RIVAL_EVERY_MS) return false;
    this.reportedAt = now;
    log.error(text);
    return true;
  }

  private hold(lease: OwnLease): void {
    this.lease = lease;
    this.lost = false;
    this.ownRevisions.push(lease.revision);
    if (this.ownRevisions.length > REMEMBERED_WRITES) this.ownRevisions.shift();
    if (lease.expiration === null) {
      this.due = null;
      return;
    }
    const leftMs = Math.min(lease.expiration - this.clock.wallMs(), LIFETIME_MS);
    const ms = Math.max(0, leftMs - this.marginMs);
    this.renewIn(ms);
    log.info(`Waiting for ${describeDuration(ms)} to renew lease`);
  }

  private renewIn(ms: number): void {
    this.due = { wallMs: this.clock.wallMs() + ms, monotonicMs: this.clock.monotonicMs() + ms };
  }

  /** Milliseconds until the lease has to be renewed; null: never. */
  private untilDue(): number | null {
    if (this.due === null) return null;
    const { wallMs, monotonicMs } = this.due;
    return Math.min(wallMs - this.clock.wallMs(), monotonicMs - this.clock.monotonicMs());
  }

  /** Until something was observed or the renewal is due; false when `signal` fired. */
  private async pause(signal: AbortSignal): Promise<boolean> {
    this.wake = new AbortController();
    const either = AbortSignal.any([signal, this.wake.signal]);
    for (;;) {
      if (signal.aborted) return false;
      if (this.changes.length > 0 || this.dueNow) return true;
      const ms = Math.min(this.untilDue() ?? LOOK_MS, this.untilTold(), LOOK_MS);
      if (ms <= 0) return true;
      await this.clock.sleep(ms, either);
    }
  }
}

function describeExpiration({ expiration }: OwnLease): string {
  return expiration === null ? 'never (a reservation)' : new Date(expiration).toISOString();
}

/** `22h59m59s`, as Go prints a duration. */
function describeDuration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  const parts = hours > 0 ? `${hours}h${minutes}m` : minutes > 0 ? `${minutes}m` : '';
  return `${parts}${seconds % 60}s`;
}
