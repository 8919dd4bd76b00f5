import { setTimeout as delay } from 'node:timers/promises';
import type { Dice } from './dice.js';

const PAUSE_MS = 40;

/** Changes of a store that go on all the time: about 25 a second while it runs. */
export class Churn {
  private running: Promise<void> | null = null;
  private stop = new AbortController();
  /** Changes that the store has taken. */
  changes = 0;

  /** @param change makes one */
  constructor(private readonly change: (dice: Dice) => Promise<void>) {}

  /** What it does derives from the dice; how much of that the store takes while it is broken does not. */
  start(dice: Dice): void {
    this.stop = new AbortController();
    this.running = this.run(dice, this.stop.signal);
  }

  /** Resolves when its last change is over. */
  async end(): Promise<void> {
    this.stop.abort();
    await this.running;
    this.running = null;
  }

  private async run(dice: Dice, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.change(dice);
        this.changes++;
      } catch {
        // The store is away, which is what this is about; or it has taken a change that seemed to fail.
      }
      await delay(PAUSE_MS);
    }
  }
}
