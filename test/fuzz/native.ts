/** The targets of native/fuzz/: built with clang, run by libFuzzer. */
import { spawn } from 'node:child_process';
import { cp, mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join, relative } from 'node:path';
import { hasCommand, ROOT } from '../../bench/tools.js';
import type { Outcome } from './outcome.js';

const BUILD = join(ROOT, 'build-fuzz');
/** What is kept of all that was found. */
const KEPT = join(ROOT, 'native/fuzz/corpus');
/** Inputs of a target that are kept at most: the corpus is part of the checkout. */
const MOST_KEPT = 40;
const MOST_KEPT_BYTES = 2048;
const LONGEST_INPUT = 4096;
/** Where every byte stands for much more: a search through all routes for each, or a packet. */
const SHORTER_INPUT: Readonly<Record<string, number>> = { fib: 320, merge: 768, handover: 1024 };
/**
 * A freed block comes back after 16 MiB instead of 256, and of what allocated it two callers are remembered: so memory
 * stays in the cache. A fault is run again by hand, with ASan's own settings.
 */
const ASAN = 'quarantine_size_mb=16:malloc_context_size=2';
/** For one input, under sanitizers on a loaded machine. */
const INPUT_TIMEOUT_S = 30;

interface Finished {
  readonly status: number | null;
  readonly output: string;
}

function finish(
  command: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Finished> {
  const child = spawn(command, args, { cwd: ROOT, env: { ...process.env, ...env } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => {
      resolve({ status, output });
    });
  });
}

async function mustFinish(
  command: string,
  args: readonly string[],
  env?: Record<string, string>,
): Promise<void> {
  const { status, output } = await finish(command, args, env);
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${output}`);
}

/** The names of all targets, by their sources. */
export async function nativeTargets(): Promise<string[]> {
  const text = await readFile(join(ROOT, 'native/sources.gypi'), 'utf8');
  return [...text.matchAll(/"fuzz\/(\w+)\.cc"/g)].map(([, name = '']) => name);
}

/** Builds these targets. @throws Error with the remedy where there is no clang. */
export async function buildNative(names: readonly string[]): Promise<void> {
  const compiler = ['clang++-14', 'clang++'].find(hasCommand);
  if (compiler === undefined) {
    throw new Error('libFuzzer is part of clang: install clang-14 and libclang-rt-14-dev');
  }
  await mustFinish('cmake', [
    ...['-S', 'native', '-B', BUILD, '-DFUZZ=ON', '--log-level=WARNING'],
    `-DCMAKE_CXX_COMPILER=${compiler}`,
  ]);
  const targets = names.map((name) => `fuzz_${name}`);
  await mustFinish('cmake', ['--build', BUILD, '-j', `${availableParallelism()}`, '--target', ...targets]);
}

/** Runs a target from its seeds, the kept corpus and what earlier runs here have found. */
export async function fuzzNative(name: string, seconds: number): Promise<Outcome> {
  const program = join(BUILD, `fuzz_${name}`);
  const { found, all } = await corpusOf(name);
  const crashes = join(BUILD, 'crashes');
  await mkdir(crashes, { recursive: true });
  const flags = [
    `-max_total_time=${seconds}`,
    `-max_len=${SHORTER_INPUT[name] ?? LONGEST_INPUT}`,
    `-timeout=${INPUT_TIMEOUT_S}`,
    '-print_final_stats=1',
    `-artifact_prefix=${crashes}/${name}-`,
    found,
    ...all,
  ];
  const { status, output } = await finish(program, flags, { ASAN_OPTIONS: ASAN });
  const number = (pattern: RegExp) => Number(pattern.exec(output)?.[1] ?? 0);
  const executions = number(/number_of_executed_units:\s*(\d+)/);
  const [, coverage = '–', corpus = '–'] = /DONE\s+cov: (\d+).* corp: (\d+)\//.exec(output) ?? [];
  if (status === 0) return { name, executions, seconds, coverage, corpus, failure: null };
  const input = /Test unit written to (\S+)/.exec(output)?.[1] ?? '';
  const again = `${relative(ROOT, program)} ${relative(ROOT, input)}`;
  return { name, executions, seconds, coverage, corpus, failure: `${output.slice(-8000)}\nAgain: ${again}` };
}

/** Where the inputs of a target are; `found` is written to. */
async function corpusOf(name: string): Promise<{ found: string; all: string[] }> {
  const found = join(BUILD, 'corpus', name);
  const seeds = join(BUILD, 'seeds', name);
  await rm(seeds, { recursive: true, force: true });
  await mkdir(found, { recursive: true });
  await mustFinish(join(BUILD, `fuzz_${name}`), [], { FLANNEL_FUZZ_SEEDS: seeds });
  const kept = join(KEPT, name);
  await mkdir(kept, { recursive: true });
  return { found, all: [seeds, kept] };
}

/** Makes the kept corpus anew: the fewest of all inputs that reach what they all reach, the smallest first. */
export async function keepCorpus(name: string): Promise<void> {
  const { found, all } = await corpusOf(name);
  const merged = join(BUILD, 'merged', name);
  await rm(merged, { recursive: true, force: true });
  await mkdir(merged, { recursive: true });
  await mustFinish(join(BUILD, `fuzz_${name}`), ['-merge=1', merged, found, ...all]);
  const sizes = await Promise.all(
    (await readdir(merged)).map(async (file) => ({ file, size: (await stat(join(merged, file))).size })),
  );
  const small = sizes.filter(({ size }) => size <= MOST_KEPT_BYTES).sort((a, b) => a.size - b.size);
  // Spread over all sizes: the smallest alone would be those that end at once.
  const step = Math.max(1, small.length / MOST_KEPT);
  const kept = join(KEPT, name);
  await rm(kept, { recursive: true, force: true });
  await mkdir(kept, { recursive: true });
  for (let at = 0; at < small.length; at += step) {
    const file = small[Math.floor(at)]?.file ?? '';
    await cp(join(merged, file), join(kept, file));
  }
}
