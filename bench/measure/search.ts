/** The throughput search of RFC 2544, section 26.1: the highest rate that a device forwards with little enough loss. */

/** One step of the search: what happened at a rate. */
export interface Probe {
  /** Packets per second that were asked for. */
  readonly rate: number;
  /** Packets per second that the sender achieved. */
  readonly offered: number;
  /** Share of the packets that did not arrive. */
  readonly loss: number;
}

export interface SearchOptions {
  /** Where to begin: a rate that is known to be too high, in packets per second. */
  readonly ceiling: number;
  /** The largest loss that passes, as a share. */
  readonly tolerance: number;
  /** The search ends when the bounds are this close, as a share of the upper one. */
  readonly resolution: number;
  /** Steps that other searches of the same path have made already. */
  readonly known: readonly Probe[];
  probe(rate: number): Promise<Probe>;
}

/** A sender that misses its rate by more than this tests another rate than the one asked for. */
const OFFERED_ENOUGH = 0.97;

/** True when this step shows that its rate is forwarded. */
export function passes({ rate, offered, loss }: Probe, tolerance: number): boolean {
  return loss <= tolerance && offered >= rate * OFFERED_ENOUGH;
}

/**
 * Halves the interval between a rate that passed and one that failed. Resolves with the highest offered rate that
 * passed (0 where none did), and with every probe that was made.
 */
export async function searchRate(
  options: SearchOptions,
): Promise<{ readonly rate: number; readonly probes: Probe[] }> {
  const { tolerance, resolution } = options;
  const probes: Probe[] = [];
  const failed = options.known.filter((probe) => !passes(probe, tolerance)).map(({ rate }) => rate);
  let high = Math.min(options.ceiling, ...failed);
  // Only what passed below every failure: with noise, a higher rate may pass by chance.
  let best = options.known
    .filter((probe) => passes(probe, tolerance) && probe.rate < high)
    .reduce<Probe | null>((a, b) => (a !== null && a.rate > b.rate ? a : b), null);
  while (high - (best?.rate ?? 0) > high * resolution) {
    const rate = ((best?.rate ?? 0) + high) / 2;
    // Below this even a path that loses everything has been searched long enough.
    if (rate < options.ceiling / 256) break;
    const probe = await options.probe(rate);
    probes.push(probe);
    if (passes(probe, tolerance)) best = probe;
    else high = rate;
  }
  return { rate: best?.offered ?? 0, probes };
}
