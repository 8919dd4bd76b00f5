/**
 * `npm run bench:compare -- BASE`: does this checkout cost more processor time a packet than commit BASE?
 *
 * BASE is built in a git worktree of its own. Both stand side by side on this machine and are measured in turn, and
 * only processor time of the forwarders is judged, since it moves least with whatever else the machine does.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { flannel, refusal } from './contenders/flannel.js';
import type { Contender } from './contenders/contender.js';
import { FLANNELD } from './daemon.js';
import { inLab, runInLab } from './lab.js';
import { DEFAULT_LIMITS } from './measure/disturbance.js';
import { judge } from './measure/verdict.js';
import type { Verdict } from './measure/verdict.js';
import { METRICS, formatMetric, formatNumber } from './report/metrics.js';
import type { Metric, Values } from './report/metrics.js';
import { chooseSamples } from './report/result.js';
import { Session } from './session.js';
import type { Sample } from './session.js';
import { formatTable } from './table.js';
import { ROOT, compileTool } from './tools.js';
import { TRIALS } from './trials/registry.js';

const HELP = `Usage: npm run bench:compare -- [OPTION]... BASE

Builds commit BASE in a temporary folder, measures it and this checkout in turn, and fails (status 1) when this
checkout needs more than 5 % more processor time for a packet or a gigabyte in any tier and trial.

  --rounds N     rounds of a pass, at least 5 (default 7)
  --seconds S    length of one sample (default 2)
  --tiers A,B    tiers to compare (default: all that both know)

A figure is worse only if its median ratio is above 1.05 and three quarters of the rounds are above 1. Where any median
is above 1.05, a second pass adds as many rounds, and all of them are judged together: a figure whose rounds disagree
is "unclear", which is reported and does not fail. Disturbed rounds are repeated up to twice and never counted; a figure
with fewer than 5 undisturbed rounds is "unclear" too.
`;

const TIERS = ['basic', 'batch', 'udp-offload', 'full'];
const TRIAL_METRICS: Readonly<Record<string, Metric>> = {
  tcp1: 'fwd_cpu_s_per_gb',
  udp64: 'fwd_us_per_packet',
  imix: 'fwd_us_per_packet',
  rate50k: 'fwd_us_per_packet',
};
/** Where the worktree lies, told to the process inside the lab. */
const BASE_ENV = 'BENCH_COMPARE_BASE';
const PROGRAM = 'dist/src/main.js';
const stop = new AbortController();

interface Line {
  readonly trial: string;
  readonly tier: string;
  readonly metric: Metric;
  readonly verdict: Verdict;
  readonly base: number;
  readonly head: number;
}

async function main(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      help: { type: 'boolean', default: false, short: 'h' },
      rounds: { type: 'string', default: '7' },
      seconds: { type: 'string', default: '2' },
      tiers: { type: 'string', default: TIERS.join(',') },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const [base] = positionals;
  const rounds = Number(values.rounds);
  const seconds = Number(values.seconds);
  if (base === undefined || positionals.length > 1)
    throw new Error('name one commit to compare with; --help says more');
  if (!Number.isInteger(rounds) || rounds < 5) throw new Error('--rounds must be a whole number from 5 up');
  if (!(seconds > 0)) throw new Error('--seconds must be a number above 0');
  const unknown = values.tiers.split(',').find((tier) => !TIERS.includes(tier));
  if (unknown !== undefined) throw new Error(`unknown tier ${unknown}; there are ${TIERS.join(', ')}`);
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.on(signal, () => {
      stop.abort();
    });
  const built = process.env[BASE_ENV];
  if (inLab() && built !== undefined) return compare(built, values.tiers.split(','), rounds, seconds);
  return withWorktree(base, args);
}

/** Builds the base and runs this program again inside a lab. The worktree is gone afterwards. */
async function withWorktree(base: string, args: readonly string[]): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'flannel-base-'));
  const tree = join(folder, 'base');
  try {
    await compileTool('traffic');
    must('git', ['-C', ROOT, 'worktree', 'add', '--detach', '--quiet', tree, base], ROOT);
    await build(tree);
    process.env[BASE_ENV] = tree;
    return await runInLab(process.execPath, [fileURLToPath(import.meta.url), ...args]);
  } finally {
    spawnSync('git', ['-C', ROOT, 'worktree', 'remove', '--force', tree], { stdio: 'ignore' });
    await rm(folder, { recursive: true, force: true });
    spawnSync('git', ['-C', ROOT, 'worktree', 'prune'], { stdio: 'ignore' });
  }
}

/** Builds a checkout with the packages of this one where they are the same, else with its own. */
async function build(tree: string): Promise<void> {
  say(`building ${tree}`);
  const lock = 'package-lock.json';
  const same =
    existsSync(join(tree, lock)) && readFileSync(join(tree, lock)).equals(readFileSync(join(ROOT, lock)));
  if (same) {
    await symlink(join(ROOT, 'node_modules'), join(tree, 'node_modules'));
    must('npm', ['run', '--silent', 'build:native'], tree);
  } else {
    must('npm', ['ci', '--no-audit', '--no-fund'], tree);
  }
  // The program has to run; whether that commit's tests pass the compiler is no concern here.
  const { stdout } = spawnSync('npm', ['run', '--silent', 'build:ts'], { cwd: tree, encoding: 'utf8' });
  stop.signal.throwIfAborted();
  if (!existsSync(join(tree, PROGRAM))) throw new Error(`cannot build ${tree}:\n${stdout.slice(-2000)}`);
}

function must(command: string, args: readonly string[], cwd: string): void {
  const { status, error, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  stop.signal.throwIfAborted();
  if (status === 0) return;
  const output = error?.message ?? `${stdout}${stderr}`;
  throw new Error(`${command} ${args.join(' ')} failed:\n${output.slice(-2000)}`);
}

async function compare(
  tree: string,
  tiers: readonly string[],
  rounds: number,
  seconds: number,
): Promise<number> {
  const main = join(tree, PROGRAM);
  const pairs: Contender[] = [];
  const compared: string[] = [];
  for (const tier of tiers) {
    const flags = [`--dataplane-tier=${tier}`];
    const problems = [await refusal(main, flags), await refusal(FLANNELD, flags)];
    if (problems.some((problem) => problem !== null)) {
      say(
        `tier ${tier} left out: ${problems.map((problem) => problem ?? 'known').join(' / ')} (base / head)`,
      );
      continue;
    }
    compared.push(tier);
    pairs.push(flannel({ name: `base-${tier}`, summary: '', flags, main }));
    pairs.push(flannel({ name: `head-${tier}`, summary: '', flags }));
  }
  const samples: Sample[] = [];
  await pass(pairs, rounds, seconds, 0, samples);
  let lines = judgeAll(samples, compared);
  if (lines.some(({ verdict }) => /worse|unclear/.test(verdict.word)) && !stop.signal.aborted) {
    say('something looks worse, or its rounds disagree: once more');
    await pass(pairs, rounds, seconds, rounds, samples);
    lines = judgeAll(samples, compared);
  }
  process.stdout.write(`${report(lines)}\n`);
  if (stop.signal.aborted) return 130;
  const failed = samples.find(({ error }) => error !== null);
  if (failed !== undefined) throw new Error(`${failed.contender} in ${failed.trial}: ${failed.error ?? ''}`);
  if (lines.length === 0) throw new Error('nothing could be compared');
  return lines.some(({ verdict }) => verdict.word === 'worse') ? 1 : 0;
}

/** Measures `rounds` rounds more, numbered from `first`. */
async function pass(
  contenders: readonly Contender[],
  rounds: number,
  seconds: number,
  first: number,
  samples: Sample[],
): Promise<void> {
  const trials = TRIALS.filter(({ name }) => name in TRIAL_METRICS);
  const session = new Session(
    {
      ...{ contenders, trials, rounds, seconds, repeats: 2, limits: DEFAULT_LIMITS, deadline: Infinity, say },
      describe: (_, { trial, contender, values }) => `${contender} ${formatCost(trial, values)}`,
    },
    stop.signal,
  );
  await session.run();
  for (const sample of session.result().samples) samples.push({ ...sample, round: sample.round + first });
}

function formatCost(trial: string, values: Values): string {
  const metric = TRIAL_METRICS[trial];
  const value = metric === undefined ? undefined : values[metric];
  return metric === undefined || value === undefined ? 'failed' : formatMetric(metric, value);
}

function judgeAll(samples: readonly Sample[], tiers: readonly string[]): Line[] {
  return Object.entries(TRIAL_METRICS).flatMap(([trial, metric]) => {
    const { samples: chosen, outcome } = chooseSamples(samples, trial);
    const usable = outcome.disturbed ? [] : chosen;
    return tiers.map((tier) => {
      const of = (side: string) =>
        new Map(
          usable
            .filter(({ contender }) => contender === `${side}-${tier}`)
            .flatMap(({ round, values }) => {
              const value = values[metric];
              return value === undefined ? [] : [[round, value] as const];
            }),
        );
      const base = of('base');
      const head = of('head');
      const verdict = judge(base, head);
      return { trial, tier, metric, verdict, base: verdict.base, head: verdict.head };
    });
  });
}

function report(lines: readonly Line[]): string {
  const rows = lines.map(({ trial, tier, metric, verdict, base, head }) => [
    trial,
    tier,
    METRICS[metric].title,
    formatMetric(metric, base),
    formatMetric(metric, head),
    `${formatNumber(verdict.ratio)}x (${formatNumber(verdict.low)}–${formatNumber(verdict.high)})`,
    String(verdict.rounds),
    verdict.word,
  ]);
  return formatTable(
    ['trial', 'tier', 'figure', 'base', 'head', 'head / base (quartiles)', 'rounds', 'verdict'],
    rows,
  );
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`bench:compare: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}
