import { sleep } from './retry.js';

/** Time as a daemon has it: what the wall clock shows, which may jump, and what really passes. */
export interface Clock {
  /** Milliseconds since the epoch. */
  wallMs(): number;
  /** Milliseconds since some moment in the past, whatever the wall clock was set to meanwhile. */
  monotonicMs(): number;
  /** Lets `ms` milliseconds really pass; false when `signal` fired first. */
  sleep(ms: number, signal: AbortSignal): Promise<boolean>;
}

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep,
};
