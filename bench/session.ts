/** A run of the benchmarks: brings contenders up side by side, takes the samples in turn, and keeps every one. */
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Contender, Scenario } from './contenders/contender.js';
import { disturbances } from './measure/disturbance.js';
import type { Limits, MachineFigures } from './measure/disturbance.js';
import { inTurn, runPlan } from './measure/schedule.js';
import type { Turn } from './measure/schedule.js';
import type { Values } from './report/metrics.js';
import { hasCommand } from './tools.js';
import { Topology } from './topology.js';
import { waitUntilItCarries } from './trials/traffic.js';
import type { Bed, Trial, Variant } from './trials/trial.js';

/** One measurement of one contender. */
export interface Sample {
  /** The trial's name, or that of its variant. */
  readonly trial: string;
  readonly contender: string;
  readonly round: number;
  readonly attempt: number;
  readonly values: Values;
  /** The worst of each; null when the measurement failed. */
  readonly machine: MachineFigures | null;
  readonly error: string | null;
  /** Why the machine was not quiet enough meanwhile. */
  readonly disturbances: readonly string[];
  /** True when any sample of the same turn was disturbed. */
  discarded: boolean;
}

/** A contender that takes no part in a trial, or a trial that takes place for none (contender null). */
export interface Absence {
  readonly trial: string;
  readonly contender: string | null;
  readonly reason: string;
}

export interface SessionOptions {
  readonly contenders: readonly Contender[];
  readonly trials: readonly Trial[];
  readonly rounds: number;
  readonly seconds: number;
  readonly repeats: number;
  readonly limits: Limits;
  /** In terms of performance.now(). */
  readonly deadline: number;
  /** Takes one line of progress. */
  say(line: string): void;
  /** Describes a sample in a few characters, for progress. */
  describe(trial: Trial, sample: Sample): string;
}

/** What was measured. */
export interface SessionResult {
  readonly samples: readonly Sample[];
  readonly absences: readonly Absence[];
  readonly notes: ReadonlySet<string>;
  readonly discardedTurns: number;
  readonly missingTurns: number;
  readonly outOfTime: boolean;
}

/** The lab's own /run: whatever lies there goes with the lab, even when this process is killed. */
const FOLDER = '/run/bench-';
const CARRIES_MS = 15_000;
/** A contender that failed so often in one trial is not tried there again. */
const MOST_FAILURES = 2;

/** Trials that share their beds. */
interface Stage {
  readonly scenarios: readonly Scenario[];
  readonly trials: readonly Trial[];
}

/** A contender in every scenario of a stage. */
interface Entrant {
  readonly contender: Contender;
  readonly beds: readonly OpenBed[];
}

interface OpenBed extends Bed {
  close(): Promise<void>;
}

export class Session {
  private readonly samples: Sample[] = [];
  private readonly absences: Absence[] = [];
  private readonly notes = new Set<string>();
  private readonly failures = new Map<string, number>();
  private discarded = 0;
  private missing = 0;
  private outOfTime = false;
  private beds = 0;

  constructor(
    private readonly options: SessionOptions,
    private readonly stop: AbortSignal,
  ) {}

  /** Measures everything. A stop ends it early; what was measured until then is in result(). */
  async run(): Promise<void> {
    for (const stage of stagesOf(this.trialsThatCanRun())) {
      if (this.stopped()) return;
      await this.runStage(stage);
    }
  }

  result(): SessionResult {
    return {
      samples: this.samples,
      absences: this.absences,
      notes: this.notes,
      discardedTurns: this.discarded,
      missingTurns: this.missing,
      outOfTime: this.outOfTime,
    };
  }

  private stopped(): boolean {
    return this.stop.aborted;
  }

  private trialsThatCanRun(): Trial[] {
    return this.options.trials.filter(({ name, needs }) => {
      const lacking = needs.filter((command) => !hasCommand(command));
      if (lacking.length === 0) return true;
      this.absences.push({ trial: name, contender: null, reason: `not installed: ${lacking.join(', ')}` });
      return false;
    });
  }

  private async runStage(stage: Stage): Promise<void> {
    const folder = await mkdtemp(FOLDER);
    const entrants: Entrant[] = [];
    try {
      for (const contender of this.options.contenders) {
        if (this.stopped()) return;
        const entrant = await this.enter(contender, stage, folder);
        if (entrant !== null) entrants.push(entrant);
      }
      const names = entrants.map(({ contender }) => contender.name);
      const { trials } = stage;
      this.options.say(`${trials.map(({ name }) => name).join(', ')}: ${names.join(', ') || 'nobody'} ready`);
      if (entrants.length === 0) return;
      const { rounds, repeats, deadline } = this.options;
      const take = (turn: Turn<Trial>) => this.takeTurn(turn, entrants, stage);
      const now = () => performance.now();
      const outcome = await runPlan({ trials, rounds, repeats, deadline, now, take });
      this.discarded += outcome.discarded;
      this.missing += outcome.missing;
      this.outOfTime ||= outcome.outOfTime;
    } finally {
      await Promise.all(entrants.flatMap(({ beds }) => beds.map((bed) => bed.close())));
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** Brings a contender up in all scenarios of the stage; null, with the reason kept, where it cannot be. */
  private async enter(contender: Contender, stage: Stage, folder: string): Promise<Entrant | null> {
    const beds: OpenBed[] = [];
    try {
      for (const scenario of stage.scenarios) {
        const reason = await contender.unavailable(scenario);
        if (reason !== null) throw new Error(reason);
      }
      for (const scenario of stage.scenarios) beds.push(await this.openBed(contender, scenario, folder));
      return { contender, beds };
    } catch (error) {
      await Promise.all(beds.map((bed) => bed.close()));
      const reason = textOf(error);
      this.options.say(`${contender.name} cannot take part: ${firstLine(reason)}`);
      for (const { name } of stage.trials) {
        this.absences.push({ trial: name, contender: contender.name, reason });
      }
      return null;
    }
  }

  private async openBed(contender: Contender, scenario: Scenario, parent: string): Promise<OpenBed> {
    const folder = await mkdtemp(join(parent, `${contender.name.replace(/\W/g, '-')}-`));
    const topology = await Topology.isolated(`b${this.beds++}`, scenario.hosts, scenario.mtu);
    const { hosts } = topology;
    try {
      if (!scenario.uso) {
        for (const host of hosts) await host.exec('ethtool', '-K', 'eth0', 'tx-udp-segmentation', 'off');
      }
      const overlay = await contender.up({ hosts, folder, scenario });
      for (const note of overlay.notes) this.notes.add(note);
      const bed: Bed = { contender: contender.name, hosts, overlay, scenario };
      const close = async () => {
        await overlay.down();
        await topology.close();
      };
      try {
        await makeSubnetsLocal(bed);
        await waitUntilItCarries(bed, CARRIES_MS);
        return { ...bed, close };
      } catch (error) {
        await overlay.down();
        throw error;
      }
    } catch (error) {
      await topology.close();
      throw error;
    }
  }

  /** All contenders once in one trial. True when the machine was disturbed meanwhile. */
  private async takeTurn(turn: Turn<Trial>, entrants: readonly Entrant[], stage: Stage): Promise<boolean> {
    const { trial, round } = turn;
    const samples: Sample[] = [];
    for (const { beds } of inTurn(entrants, round)) {
      const variants = trial.variants.map((variant) => ({ variant, bed: bedFor(variant, stage, beds) }));
      for (const { variant, bed } of inTurn(variants, round)) {
        // A turn that was cut short is no turn, and nobody waits for its repetition.
        if (this.stopped()) return false;
        const sample = await this.takeSample(turn, variant, bed);
        if (sample !== null && !this.stopped()) samples.push(sample);
      }
    }
    const reasons = new Set(samples.flatMap((sample) => sample.disturbances));
    for (const sample of samples) sample.discarded = reasons.size > 0;
    this.samples.push(...samples);
    const figures = inTurn(samples, round).map((sample) => this.options.describe(trial, sample));
    const verdict = reasons.size === 0 ? '' : ` – disturbed: ${[...reasons][0] ?? ''}`;
    this.options.say(`round ${round + 1} ${trial.name}: ${figures.join(', ')}${verdict}`);
    return reasons.size > 0;
  }

  private async takeSample(
    { trial, round, attempt }: Turn<Trial>,
    { label }: Variant,
    bed: Bed,
  ): Promise<Sample | null> {
    const key = `${label} ${bed.contender}`;
    const failures = this.failures.get(key) ?? 0;
    if (failures >= MOST_FAILURES) return null;
    const about = { trial: label, contender: bed.contender, round, attempt, discarded: false };
    try {
      const { values, watched } = await trial.run(bed, this.options.seconds);
      const machine = worst(watched.map((figures) => figures.machine));
      const found = disturbances(machine, this.options.limits);
      return { ...about, values, machine, error: null, disturbances: found };
    } catch (error) {
      this.failures.set(key, failures + 1);
      const reason = bed.overlay.failure() ?? textOf(error);
      return { ...about, values: {}, machine: null, error: reason, disturbances: [] };
    }
  }
}

/** Several flows to one host need several addresses there: it takes all of its subnet for its own. */
async function makeSubnetsLocal({ hosts, overlay, scenario }: Bed): Promise<void> {
  if (scenario.hosts <= 2) return;
  for (const [i, host] of hosts.entries()) {
    const subnet = overlay.ends[i]?.subnet;
    if (i > 0 && subnet !== undefined) await host.ip('route', 'add', 'local', subnet, 'dev', 'lo');
  }
}

/** Trials whose variants need the same scenarios share a stage; stages keep the order of the trials. */
export function stagesOf(trials: readonly Trial[]): Stage[] {
  const stages = new Map<string, { scenarios: readonly Scenario[]; trials: Trial[] }>();
  for (const trial of trials) {
    const scenarios = trial.variants.map(({ scenario }) => scenario);
    const key = JSON.stringify(scenarios);
    const stage = stages.get(key);
    if (stage === undefined) stages.set(key, { scenarios, trials: [trial] });
    else stage.trials.push(trial);
  }
  return [...stages.values()];
}

function bedFor({ label, scenario }: Variant, stage: Stage, beds: readonly OpenBed[]): Bed {
  const key = JSON.stringify(scenario);
  const bed = beds[stage.scenarios.findIndex((other) => JSON.stringify(other) === key)];
  if (bed === undefined) throw new Error(`no bed for ${label}`);
  return bed;
}

function worst(all: readonly MachineFigures[]): MachineFigures {
  const most = (of: (figures: MachineFigures) => number) => Math.max(0, ...all.map(of));
  return {
    cpu: most(({ cpu }) => cpu),
    steal: most(({ steal }) => steal),
    foreign: most(({ foreign }) => foreign),
    clockJump: most(({ clockJump }) => Math.abs(clockJump)),
  };
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function firstLine(text: string): string {
  return text.split('\n')[0] ?? '';
}
