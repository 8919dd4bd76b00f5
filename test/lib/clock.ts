import type { Clock } from '../../src/clock.js';

interface Sleeper {
  readonly until: number;
  readonly wake: (slept: boolean) => void;
}

/** A clock that goes when it is told to. Those who sleep by it are woken in the order of their times. */
export class TestClock implements Clock {
  private monotonic = 0;
  private wallAhead = Date.UTC(2026, 0, 1);
  private sleepers: Sleeper[] = [];

  wallMs(): number {
    return this.monotonic + this.wallAhead;
  }

  monotonicMs(): number {
    return this.monotonic;
  }

  sleep(ms: number, signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return Promise.resolve(false);
    return new Promise((resolve) => {
      const wake = (slept: boolean): void => {
        signal.removeEventListener('abort', aborted);
        this.sleepers = this.sleepers.filter((one) => one !== sleeper);
        resolve(slept);
      };
      const aborted = (): void => {
        wake(false);
      };
      const sleeper = { until: this.monotonic + ms, wake };
      signal.addEventListener('abort', aborted);
      this.sleepers.push(sleeper);
    });
  }

  /** Sets the wall clock, forward or (negative) back; no time passes. */
  setWall(byMs: number): void {
    this.wallAhead += byMs;
  }

  /** Takes `ms` for work that nobody else gets to do something during. */
  advance(ms: number): void {
    this.monotonic += ms;
  }

  /** Lets time pass, and everybody do what falls into it. */
  async pass(ms: number): Promise<void> {
    const end = this.monotonic + ms;
    for (;;) {
      // What was woken may wait for the event loop before it sleeps again.
      for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
      const next = this.sleepers.reduce<Sleeper | null>(
        (first, one) => (first === null || one.until < first.until ? one : first),
        null,
      );
      if (next === null || next.until > end) break;
      this.monotonic = Math.max(this.monotonic, next.until);
      next.wake(true);
    }
    this.monotonic = Math.max(this.monotonic, end);
  }
}
