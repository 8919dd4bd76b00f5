/** The few statistics that a handful of noisy rounds can bear: medians, ranges, ratios within a round. */

/** A figure over rounds. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** How many rounds gave it. */
  readonly rounds: number;
}

/** The value that `share` (0 to 1) of the values do not exceed, interpolated between neighbours. NaN for none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const low = sorted[Math.floor(at)] ?? NaN;
  const high = sorted[Math.ceil(at)] ?? NaN;
  return low + (high - low) * (at - Math.floor(at));
}

/** Null for no values at all. */
export function spread(values: readonly number[]): Spread | null {
  if (values.length === 0) return null;
  return {
    median: quantile(values, 0.5),
    min: Math.min(...values),
    max: Math.max(...values),
    rounds: values.length,
  };
}

/**
 * The ratio of two contenders: taken within each round, where both had the same machine, and only then over the
 * rounds. Rounds in which one of them has no figure, or the divisor is 0, do not count.
 * @param ofA the first contender's figures by round
 */
export function ratioWithinRounds(
  ofA: ReadonlyMap<number, number>,
  ofB: ReadonlyMap<number, number>,
): Spread | null {
  const ratios: number[] = [];
  for (const [round, a] of ofA) {
    const b = ofB.get(round);
    if (b !== undefined && b !== 0) ratios.push(a / b);
  }
  return spread(ratios);
}
