/** What a process holds over time, and whether that grows. */
import { readdirSync, readFileSync } from 'node:fs';

/** At one moment. */
export interface Holdings {
  /** Milliseconds, on any clock. */
  readonly at: number;
  /** Resident memory, bytes. */
  readonly rss: number;
  readonly descriptors: number;
  readonly threads: number;
}

export function holdingsOf(pid: number): Holdings {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string) => Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(status)?.[1]);
  return {
    at: performance.now(),
    rss: field('VmRSS') * 1024,
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    threads: field('Threads'),
  };
}

/** The least value in each window of time: what is left once a collector has been at work. */
export function troughs(
  samples: readonly (readonly [number, number])[],
  windowMs: number,
): (readonly [number, number])[] {
  const least = new Map<number, readonly [number, number]>();
  const start = samples[0]?.[0] ?? 0;
  for (const sample of samples) {
    const window = Math.floor((sample[0] - start) / windowMs);
    const before = least.get(window);
    if (before === undefined || sample[1] < before[1]) least.set(window, sample);
  }
  return [...least.values()];
}

/** The slope of a straight line through samples, and how far it may be off. */
export interface Slope {
  /** Per hour. */
  readonly perHour: number;
  /** Half of the interval that holds the true slope with a probability of 95 %. */
  readonly uncertainty: number;
}

const HOUR_MS = 3_600_000;
/** Below this many independent samples nothing can be said. */
const FEWEST = 4;

/**
 * The slope of `[milliseconds, value]` samples by least squares. The scatter around the line says how far it may be
 * off; a collector makes the memory of a process rise and fall in long waves, so that neighbouring samples say
 * nearly the same, and they count as fewer by their correlation r: n (1 - r) / (1 + r).
 */
export function slopeOf(samples: readonly (readonly [number, number])[]): Slope {
  const count = samples.length;
  const mean = (index: 0 | 1) => samples.reduce((sum, sample) => sum + sample[index], 0) / count;
  const [meanAt, meanValue] = [mean(0), mean(1)];
  const spread = samples.reduce((sum, [at]) => sum + (at - meanAt) ** 2, 0);
  const slope = samples.reduce((sum, [at, value]) => sum + (at - meanAt) * (value - meanValue), 0) / spread;
  const residuals = samples.map(([at, value]) => value - meanValue - slope * (at - meanAt));
  const squares = residuals.reduce((sum, residual) => sum + residual ** 2, 0);
  const products = residuals.slice(1).reduce((sum, residual, i) => sum + residual * (residuals[i] ?? 0), 0);
  const correlation = squares > 0 ? Math.max(0, products / squares) : 0;
  const independent = (count * (1 - correlation)) / (1 + correlation);
  const variance = squares / Math.max(1, independent - 2);
  const uncertainty =
    independent < FEWEST
      ? Number.POSITIVE_INFINITY
      : 2 * Math.sqrt(variance / ((spread / count) * independent));
  return { perHour: slope * HOUR_MS, uncertainty: uncertainty * HOUR_MS };
}
