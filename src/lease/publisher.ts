import type { Clock } from '../clock.js';
import { systemClock } from '../clock.js';

/**
 * Hands the lease table on to the forwarding table whenever it has changed, but not once for each change: making a
 * forwarding table of 65,536 routes takes milliseconds in which this thread does nothing else. A change that comes
 * alone is passed on at once. What arrives together, or while a table is being made, is passed on together, after a
 * pause as long as that took; so events are taken in for at least half of the time, however many there are.
 */
export class TablePublisher {
  private changed = false;
  private wake: () => void = () => undefined;

  constructor(
    private readonly publish: () => void,
    private readonly clock: Clock = systemClock,
  ) {}

  /** There is something new to publish. */
  request(): void {
    this.changed = true;
    this.wake();
  }

  /** Resolves when `signal` fires. @throws whatever `publish` throws. */
  async run(signal: AbortSignal): Promise<void> {
    while (await this.requested(signal)) {
      await new Promise(setImmediate); // Lets in what has already arrived.
      this.changed = false;
      const started = this.clock.monotonicMs();
      this.publish();
      await this.clock.sleep(this.clock.monotonicMs() - started, signal);
    }
  }

  /** False once `signal` has fired. */
  private async requested(signal: AbortSignal): Promise<boolean> {
    if (!signal.aborted && !this.changed) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          signal.removeEventListener('abort', done);
          resolve();
        };
        signal.addEventListener('abort', done);
        this.wake = done;
      });
    }
    return !signal.aborted;
  }
}
