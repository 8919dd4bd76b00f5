/** In which order things are measured, and what is measured again. */

/** The order of a round: every other one is reversed, so that nobody is always measured behind the same one. */
export function inTurn<T>(items: readonly T[], round: number): T[] {
  return round % 2 === 0 ? [...items] : [...items].reverse();
}

/** One round of one trial: all contenders once. */
export interface Turn<T> {
  readonly trial: T;
  readonly round: number;
  /** 0 for the first time, 1 for the first repetition … */
  readonly attempt: number;
}

export interface Plan<T> {
  readonly trials: readonly T[];
  readonly rounds: number;
  /** How often one round of one trial is repeated at most. */
  readonly repeats: number;
  /** No turn is begun that, judging by the last one of its trial, would not be over by then. Milliseconds. */
  readonly deadline: number;
  now(): number;
  /** Measures; true when the turn was disturbed and must not count. */
  take(turn: Turn<T>): Promise<boolean>;
}

export interface Outcome {
  /** Turns that did not count. */
  readonly discarded: number;
  /** Turns that were wanted and never succeeded: always disturbed, or no time left. */
  readonly missing: number;
  readonly outOfTime: boolean;
}

/**
 * Takes every trial once a round, round by round: what time there is serves all trials alike. Disturbed turns are
 * repeated at the end, since whatever disturbed them may be over by then.
 */
export async function runPlan<T>(plan: Plan<T>): Promise<Outcome> {
  let discarded = 0;
  let outOfTime = false;
  const durations = new Map<T, number>();
  let turns: Turn<T>[] = [];
  for (let round = 0; round < plan.rounds; round++) {
    for (const trial of plan.trials) turns.push({ trial, round, attempt: 0 });
  }
  let missing = turns.length;
  while (turns.length > 0) {
    const again: Turn<T>[] = [];
    for (const turn of turns) {
      const start = plan.now();
      // A trial that has not run yet is begun as long as there is any time: one figure is better than none.
      if (start + (durations.get(turn.trial) ?? 0) >= plan.deadline) {
        outOfTime = true;
        continue;
      }
      const disturbed = await plan.take(turn);
      durations.set(turn.trial, plan.now() - start);
      if (!disturbed) missing--;
      else {
        discarded++;
        if (turn.attempt < plan.repeats) again.push({ ...turn, attempt: turn.attempt + 1 });
      }
    }
    turns = again;
  }
  return { discarded, missing, outOfTime };
}
