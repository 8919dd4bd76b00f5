import { messageOf } from '../errors.js';
import { log } from '../log.js';

/** Logs that a store went away, and that it is back: one line each, however often it is tried in between. */
export class Outage {
  private since: number | null = null;

  /** @param store what is gone, for the log, e.g. `etcd` */
  constructor(private readonly store: string) {}

  begin(error: unknown): void {
    if (this.since !== null) {
      log.v(2).info(`${this.store} is still away: ${messageOf(error)}`);
      return;
    }
    this.since = Date.now();
    log.warning(
      `lost ${this.store} (${messageOf(error)}); keeping the leases known so far and trying to reconnect`,
    );
  }

  end(): void {
    if (this.since === null) return;
    const seconds = Math.round((Date.now() - this.since) / 1000);
    log.info(
      `${this.store} is back; it was away for ${seconds} s, since ${new Date(this.since).toISOString()}`,
    );
    this.since = null;
  }
}
