/** The command line of `npm run bench`. */
import { parseArgs } from 'node:util';
import type { Contender } from './contenders/contender.js';
import { external } from './contenders/external.js';
import { CONTENDERS } from './contenders/registry.js';
import { DEFAULT_LIMITS } from './measure/disturbance.js';
import type { Limits } from './measure/disturbance.js';
import type { Trial } from './trials/trial.js';
import { TRIALS } from './trials/registry.js';

/** What to run and where to write. */
export interface BenchOptions {
  readonly contenders: readonly Contender[];
  readonly trials: readonly Trial[];
  readonly rounds: number;
  /** Of one sample, in seconds. */
  readonly seconds: number;
  /** How often a disturbed round of a trial is repeated at most. */
  readonly repeats: number;
  /** Seconds; Infinity for as long as it takes. */
  readonly budget: number;
  readonly limits: Limits;
  readonly json: string | null;
  readonly svg: string | null;
}

export type BenchCommand =
  | { readonly kind: 'run'; readonly options: BenchOptions }
  | { readonly kind: 'help' }
  | { readonly kind: 'list' };

/** A command line that cannot be used. */
export class UsageError extends Error {}

/** Left out of --quick unless they are named: they answer questions of their own. */
const NOT_QUICK = ['c-loop', 'wireguard-go'];

const QUICK = { rounds: 3, seconds: 0.5, budget: 160 };
const THOROUGH = { rounds: 5, seconds: 3, budget: Infinity };

export const HELP = `Usage: npm run bench -- [OPTION]...

Measures packet dataplanes against each other, in network namespaces of their own on this machine.

  --quick                   the main trials in less than 3 minutes
  --trials NAME,...         only these trials
  --contenders NAME,...     only these contenders
  --contender NAME=COMMAND  another contender, run by this command on each of two hosts; may be repeated
                            (bench/README.md says what the command is told)
  --rounds N                rounds, at least ${THOROUGH.rounds} for a verdict (default ${THOROUGH.rounds}; --quick ${QUICK.rounds})
  --seconds S               length of one sample (default ${THOROUGH.seconds}; --quick ${QUICK.seconds})
  --repeats N               how often a disturbed round is repeated at most (default 2)
  --budget S                begin nothing that would end later than this many seconds from now
  --max-steal PERCENT       discard a round when the hypervisor took more (default ${DEFAULT_LIMITS.steal * 100})
  --max-foreign PERCENT     discard a round when other processes used more (default ${DEFAULT_LIMITS.foreign * 100})
  --json FILE               write everything that was measured
  --svg FILE                write a chart
  --list                    name the trials and contenders, and say what cannot run here
  --help                    print this

The report is Markdown on standard output; progress goes to standard error.
`;

/** Reads the arguments behind the program's name. @throws UsageError that lists what could be written instead. */
export function parseOptions(args: readonly string[]): BenchCommand {
  const values = parseValues(args);
  if (values.help) return { kind: 'help' };
  if (values.list) return { kind: 'list' };
  const preset = values.quick ? QUICK : THOROUGH;
  const own = values.contender.map(parseContender);
  const all = [...CONTENDERS, ...own];
  refuseDuplicates(all);
  const usual = values.quick ? all.filter(({ name }) => !NOT_QUICK.includes(name)) : all;
  const contenders = values.contenders === undefined ? usual : choose('contender', values.contenders, all);
  // A contender that was given by its command is meant to run.
  for (const contender of own) {
    if (!contenders.includes(contender)) throw new UsageError(`--contenders leaves out ${contender.name}`);
  }
  const usualTrials = values.quick ? TRIALS.filter(({ quick }) => quick) : TRIALS;
  const trials = values.trials === undefined ? usualTrials : choose('trial', values.trials, TRIALS);
  const options: BenchOptions = {
    contenders,
    trials,
    rounds: wholeNumber('rounds', values.rounds, preset.rounds, 1),
    seconds: positive('seconds', values.seconds, preset.seconds),
    repeats: wholeNumber('repeats', values.repeats, 2, 0),
    budget: positive('budget', values.budget, preset.budget),
    limits: {
      ...DEFAULT_LIMITS,
      steal: positive('max-steal', values['max-steal'], DEFAULT_LIMITS.steal * 100) / 100,
      foreign: positive('max-foreign', values['max-foreign'], DEFAULT_LIMITS.foreign * 100) / 100,
    },
    json: values.json ?? null,
    svg: values.svg ?? null,
  };
  return { kind: 'run', options };
}

function parseValues(args: readonly string[]) {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean', default: false } as const;
  try {
    return parseArgs({
      args: [...args],
      options: {
        quick: flag,
        list: flag,
        help: { ...flag, short: 'h' },
        trials: text,
        contenders: text,
        contender: { type: 'string', multiple: true, default: [] as string[] },
        rounds: text,
        seconds: text,
        repeats: text,
        budget: text,
        'max-steal': text,
        'max-foreign': text,
        json: text,
        svg: text,
      },
    }).values;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new UsageError(`${message.replace(/\. To specify.*$/s, '')}; --help lists the options`, {
      cause: error,
    });
  }
}

function parseContender(text: string): Contender {
  const [, name, command] = /^([\w.-]+)=(.+)$/s.exec(text) ?? [];
  if (name === undefined || command === undefined) {
    throw new UsageError(
      `--contender ${JSON.stringify(text)}: write NAME=COMMAND, such as 'mine=./tunnel {local} {peer}'`,
    );
  }
  return external(name, command);
}

function refuseDuplicates(contenders: readonly Contender[]): void {
  const names = contenders.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice !== undefined) throw new UsageError(`there are two contenders ${twice}: give yours another name`);
}

/** The items with these names, in the order of `known`. */
function choose<T extends { readonly name: string }>(what: string, text: string, known: readonly T[]): T[] {
  const names = text.split(',').filter((name) => name !== '');
  for (const name of names) {
    if (known.some((item) => item.name === name)) continue;
    const list = known.map((item) => item.name).join(', ');
    throw new UsageError(`unknown ${what} ${JSON.stringify(name)}; there are ${list}`);
  }
  if (names.length === 0) throw new UsageError(`--${what}s names none`);
  return known.filter(({ name }) => names.includes(name));
}

function positive(name: string, text: string | undefined, unset: number): number {
  if (text === undefined) return unset;
  const value = Number(text);
  if (!(value > 0)) throw new UsageError(`--${name} ${JSON.stringify(text)}: write a number above 0`);
  return value;
}

function wholeNumber(name: string, text: string | undefined, unset: number, least: number): number {
  if (text === undefined) return unset;
  const value = Number(text);
  if (!Number.isInteger(value) || value < least) {
    throw new UsageError(`--${name} ${JSON.stringify(text)}: write a whole number from ${least} up`);
  }
  return value;
}
