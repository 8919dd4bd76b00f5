import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';

/** Sleeps `ms` milliseconds; false when `signal` fired first, so that a loop can end without a try/catch. */
export async function sleep(ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    await delay(ms, undefined, { signal });
    return true;
  } catch {
    return false; // only an abort rejects here
  }
}

/**
 * Back-off that doubles from `first` to `most` milliseconds and starts over after `reset`. Each step is cut to a random
 * part of it, the half at least, where `random` gives numbers in [0, 1).
 */
export class Backoff {
  private next: number;

  constructor(
    private readonly first: number,
    private readonly most: number,
    private readonly random: () => number = () => 1,
  ) {
    this.next = first;
  }

  /** Waits for the current step and doubles it; false when `signal` fired first. */
  async wait(signal: AbortSignal): Promise<boolean> {
    const ms = this.next;
    this.next = Math.min(this.most, ms * 2);
    return sleep(ms * (0.5 + this.random() / 2), signal);
  }

  reset(): void {
    this.next = this.first;
  }
}

/** A sleeper that can be woken. Being woken before it sleeps counts. */
export class Alarm {
  private bell = new AbortController();

  ring(): void {
    this.bell.abort();
  }

  /** Sleeps `ms` milliseconds (null: for ever) or until it rings; false when `signal` fired. */
  async wait(ms: number | null, signal: AbortSignal): Promise<boolean> {
    const either = AbortSignal.any([signal, this.bell.signal]);
    if (ms !== null) await sleep(ms, either);
    else if (!either.aborted) await once(either, 'abort');
    if (this.bell.signal.aborted) this.bell = new AbortController();
    return !signal.aborted;
  }
}
