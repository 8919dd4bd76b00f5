/** Whether a cost has grown, told from noise by the rounds' agreement. */
import { quantile } from './statistics.js';

/** A cost may grow by so much. */
const TOLERATED = 1.05;
/** Fewer rounds say nothing. */
const LEAST_ROUNDS = 5;

export interface Verdict {
  readonly word: 'worse' | 'better' | 'same' | 'unclear';
  /** Medians. */
  readonly base: number;
  readonly head: number;
  /** Of head to base within each round: median and quartiles. */
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
  readonly rounds: number;
}

/** Judges a cost (less is better), given by round. */
export function judge(base: ReadonlyMap<number, number>, head: ReadonlyMap<number, number>): Verdict {
  const rounds = [...base.keys()].filter((round) => head.has(round) && base.get(round) !== 0);
  const ratios = rounds.map((round) => (head.get(round) ?? NaN) / (base.get(round) ?? NaN));
  const [low, ratio, high] = [0.25, 0.5, 0.75].map((share) => quantile(ratios, share));
  const spread = { ratio: ratio ?? NaN, low: low ?? NaN, high: high ?? NaN };
  return {
    word: wordFor(spread, ratios.length),
    base: quantile([...base.values()], 0.5),
    head: quantile([...head.values()], 0.5),
    ...spread,
    rounds: ratios.length,
  };
}

function wordFor(
  { ratio, low, high }: { readonly ratio: number; readonly low: number; readonly high: number },
  rounds: number,
): Verdict['word'] {
  if (rounds < LEAST_ROUNDS) return 'unclear';
  if (ratio > TOLERATED) return low > 1 ? 'worse' : 'unclear';
  return ratio < 1 / TOLERATED && high < 1 ? 'better' : 'same';
}
