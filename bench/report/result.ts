/** What a run leaves behind: every sample, and the figures and ratios that follow from them. */
import { ratioWithinRounds, spread } from '../measure/statistics.js';
import type { Spread } from '../measure/statistics.js';
import type { Limits } from '../measure/disturbance.js';
import type { Absence, Sample, SessionResult } from '../session.js';
import type { Trial } from '../trials/trial.js';
import type { Machine } from './machine.js';
import { METRICS } from './metrics.js';
import type { Metric } from './metrics.js';

/** A figure of one contender over the rounds. */
export interface Figure extends Spread {
  readonly trial: string;
  readonly metric: Metric;
  readonly contender: string;
}

/** `contender` divided by `against`: within each round, then over the rounds. */
export interface Ratio extends Figure {
  /** Another contender; `NAME@TRIAL` for the contender itself in another variant of the trial. */
  readonly against: string;
}

/** What became of a trial's rounds. */
export interface TrialOutcome {
  readonly trial: string;
  readonly summary: string;
  /** Rounds that the figures come from. */
  readonly rounds: number;
  /** Rounds that were thrown away since the machine was disturbed. */
  readonly discarded: number;
  /** True when no round was undisturbed, so that the figures come from disturbed ones. */
  readonly disturbed: boolean;
}

/** The content of a result file. */
export interface Result {
  readonly format: 1;
  readonly command: string;
  /** ISO 8601. */
  readonly started: string;
  readonly seconds: number;
  readonly machine: Machine;
  /** What the contenders said about themselves, such as the features that they found. */
  readonly features: readonly string[];
  readonly settings: { readonly rounds: number; readonly sampleSeconds: number; readonly limits: Limits };
  readonly contenders: readonly { readonly name: string; readonly summary: string }[];
  readonly trials: readonly TrialOutcome[];
  readonly absences: readonly Absence[];
  /** Measurements that failed. */
  readonly failures: number;
  readonly complete: boolean;
  readonly figures: readonly Figure[];
  readonly ratios: readonly Ratio[];
  readonly samples: readonly Sample[];
}

/** Whom others are compared with. */
const REFERENCES = ['bare', 'vxlan', 'c-loop', 'classic'];

export function buildResult(
  about: Pick<Result, 'command' | 'started' | 'seconds' | 'machine' | 'settings' | 'contenders'> & {
    readonly interrupted: boolean;
  },
  trials: readonly Trial[],
  session: SessionResult,
): Result {
  const { interrupted, ...rest } = about;
  const outcomes: TrialOutcome[] = [];
  const figures: Figure[] = [];
  const ratios: Ratio[] = [];
  for (const trial of trials) {
    for (const { label } of trial.variants) {
      const chosen = chooseSamples(session.samples, label);
      if (chosen.samples.length > 0) outcomes.push({ ...chosen.outcome, summary: trial.summary });
      figures.push(...figuresOf(chosen.samples));
      ratios.push(...ratiosOf(chosen.samples, REFERENCES));
    }
    ratios.push(...variantRatios(trial, session.samples));
  }
  const failures = session.samples.filter(({ error }) => error !== null).length;
  return {
    format: 1,
    ...rest,
    features: [...session.notes],
    trials: outcomes,
    absences: session.absences,
    failures,
    complete: !interrupted && session.missingTurns === 0 && failures === 0,
    figures,
    ratios,
    samples: session.samples,
  };
}

/** The samples that count: those of undisturbed rounds, or, where there is none, the last attempt of each round. */
export function chooseSamples(
  all: readonly Sample[],
  trial: string,
): { readonly samples: Sample[]; readonly outcome: Omit<TrialOutcome, 'summary'> } {
  const ofTrial = all.filter((sample) => sample.trial === trial);
  const quiet = ofTrial.filter(({ discarded }) => !discarded);
  const latest = new Map<number, number>();
  for (const { round, attempt } of ofTrial) latest.set(round, Math.max(latest.get(round) ?? 0, attempt));
  const disturbed = quiet.length === 0;
  const samples = disturbed ? ofTrial.filter(({ round, attempt }) => latest.get(round) === attempt) : quiet;
  const turns = (of: readonly Sample[]) =>
    new Set(of.map(({ round, attempt }) => `${round}/${attempt}`)).size;
  const discarded = turns(ofTrial) - turns(samples);
  return { samples, outcome: { trial, rounds: turns(samples), discarded, disturbed } };
}

/** Values by contender, metric and round. */
function tabulate(samples: readonly Sample[]): Map<string, Map<Metric, Map<number, number>>> {
  const table = new Map<string, Map<Metric, Map<number, number>>>();
  for (const { contender, round, values } of samples) {
    const metrics = table.get(contender) ?? new Map<Metric, Map<number, number>>();
    table.set(contender, metrics);
    for (const metric of Object.keys(METRICS) as Metric[]) {
      const value = values[metric];
      if (value === undefined) continue;
      metrics.set(metric, (metrics.get(metric) ?? new Map<number, number>()).set(round, value));
    }
  }
  return table;
}

export function figuresOf(samples: readonly Sample[]): Figure[] {
  const trial = samples[0]?.trial ?? '';
  const figures: Figure[] = [];
  for (const [contender, metrics] of tabulate(samples)) {
    for (const [metric, byRound] of metrics) {
      const found = spread([...byRound.values()]);
      if (found !== null) figures.push({ trial, metric, contender, ...found });
    }
  }
  return figures;
}

/** Everyone against each of `references`. */
export function ratiosOf(samples: readonly Sample[], references: readonly string[]): Ratio[] {
  const trial = samples[0]?.trial ?? '';
  const table = tabulate(samples);
  const ratios: Ratio[] = [];
  for (const [contender, metrics] of table) {
    for (const against of references) {
      if (against === contender) continue;
      for (const [metric, byRound] of metrics) {
        const found = ratioWithinRounds(byRound, table.get(against)?.get(metric) ?? new Map());
        if (found !== null) ratios.push({ trial, metric, contender, against, ...found });
      }
    }
  }
  return ratios;
}

/** Each variant but the first against the first, of the same contender. */
function variantRatios({ variants }: Trial, all: readonly Sample[]): Ratio[] {
  const [first, ...others] = variants;
  if (first === undefined) return [];
  const before = tabulate(chooseSamples(all, first.label).samples);
  const ratios: Ratio[] = [];
  for (const { label } of others) {
    for (const [contender, metrics] of tabulate(chooseSamples(all, label).samples)) {
      for (const [metric, byRound] of metrics) {
        const found = ratioWithinRounds(byRound, before.get(contender)?.get(metric) ?? new Map());
        if (found === null) continue;
        ratios.push({ trial: label, metric, contender, against: `${contender}@${first.label}`, ...found });
      }
    }
  }
  return ratios;
}
