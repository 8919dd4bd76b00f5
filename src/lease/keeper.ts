import { once } from 'node:events';
import { FlannelError, messageOf } from '../errors.js';
import { log } from '../log.js';
import { sleep } from '../retry.js';
import type { SubnetManager } from '../subnet/manager.js';
import { sameHost } from './identity.js';
import { sameAttrs } from './lease.js';
import type { LeaseAttrs, OwnLease } from './lease.js';

const RETRY_MS = 60_000;
/** Sooner while peers still send to where this host is no more. */
const ANNOUNCE_RETRY_MS = 2000;

/** Keeps the own lease alive: renews it in time, and at once when the store says that somebody touched it. */
export class LeaseKeeper {
  private wake = new AbortController();
  /** What is to be announced; the lease's own attributes once the store has it. */
  private attrs: LeaseAttrs;

  /** @param marginMs how long before its end the lease is renewed */
  constructor(
    private readonly manager: Pick<SubnetManager, 'renewLease'>,
    private lease: OwnLease,
    private readonly marginMs: number,
  ) {
    this.attrs = lease.attrs;
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

  /** The own entry was changed or deleted by somebody else: claim it again now. */
  reclaim(): void {
    this.wake.abort();
  }

  /**
   * Resolves when `signal` fires.
   * @throws LeaseError when another host holds the subnet now.
   */
  async run(signal: AbortSignal): Promise<void> {
    let pause = this.untilRenewal();
    while (await this.pause(pause, signal)) {
      try {
        this.lease = await this.manager.renewLease(this.lease, signal, this.attrs);
        pause = this.untilRenewal();
        log.info(`Lease renewed, new expiration: ${describeExpiration(this.lease)}`);
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof FlannelError) || !error.retryable) throw error;
        pause = sameAttrs(this.attrs, this.lease.attrs) ? RETRY_MS : ANNOUNCE_RETRY_MS;
        log.error(`Error renewing lease (trying again in ${pause / 1000} s): ${messageOf(error)}`);
      }
    }
  }

  private untilRenewal(): number | null {
    const { expiration } = this.lease;
    if (expiration === null) return null;
    const ms = Math.max(0, expiration - Date.now() - this.marginMs);
    log.info(`Waiting for ${describeDuration(ms)} to renew lease`);
    return ms;
  }

  /** Waits `ms` (null: for ever) or until reclaim(); false when `signal` fired. */
  private async pause(ms: number | null, signal: AbortSignal): Promise<boolean> {
    const either = AbortSignal.any([signal, this.wake.signal]);
    if (ms !== null) await sleep(ms, either);
    else if (!either.aborted) await once(either, 'abort');
    this.wake = new AbortController();
    return !signal.aborted;
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
