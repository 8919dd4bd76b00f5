/** Looks all the time for what must not be at any time. */
import { AssertionError } from 'node:assert';
import { setTimeout as delay } from 'node:timers/promises';
import type { World } from './world.js';

const EVERY_MS = 100;
/** The store is asked more seldom. */
const STORE_EVERY = 5;

export class Watchdog {
  private readonly stop = new AbortController();
  private readonly watching: Promise<void>;
  private violation: unknown = null;

  constructor(private readonly world: World) {
    this.watching = this.watch();
  }

  /** @throws Error for the first thing it found. */
  verify(): void {
    if (this.violation !== null) throw this.violation as Error;
  }

  async end(): Promise<void> {
    this.stop.abort();
    await this.watching;
  }

  private async watch(): Promise<void> {
    for (let turn = 0; !this.stop.signal.aborted && this.violation === null; turn++) {
      try {
        this.world.check();
        if (turn % STORE_EVERY === 0) await this.world.checkStore();
      } catch (error) {
        // A store that does not answer is no violation.
        if (error instanceof AssertionError) this.violation = error;
      }
      await delay(EVERY_MS);
    }
  }
}
