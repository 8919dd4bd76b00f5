/**
 * `npm run fuzz`: feeds garbage to everything that reads from outside, each target for so many seconds. Fails with the
 * command that shows a fault again. See ../README.md.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { formatTable } from '../../bench/table.js';
import { buildNative, fuzzNative, keepCorpus, nativeTargets } from './native.js';
import type { Outcome } from './outcome.js';
import { PROPERTY_TARGETS } from './property.js';
import type { PropertyReport } from './property.js';

const USAGE = `Usage: npm run fuzz -- [--seconds N] [--jobs N] [--only NAME,…] [--keep]
  --seconds N   for each target (default 20)
  --jobs N      targets at once (default 2)
  --only NAMES  some of the targets
  --keep        then make native/fuzz/corpus/ anew of what was found
`;

const PROPERTY = fileURLToPath(new URL('property.js', import.meta.url));

async function fuzzProperty(name: string, seconds: number): Promise<Outcome> {
  const child = spawn(process.execPath, [PROPERTY, name, `${seconds}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  await new Promise((resolve) => child.once('close', resolve));
  // One that was killed, or ran out of memory, is a target that failed; the others go on.
  if (output === '') {
    const end = child.signalCode ?? `exit status ${child.exitCode ?? '?'}`;
    const again = `node dist/test/fuzz/property.js ${name} ${seconds}`;
    const failure = `ended by ${end} with no report\nAgain: ${again}`;
    return { name, executions: 0, seconds, coverage: '–', corpus: '–', failure };
  }
  const { executions, failure, reproduce } = JSON.parse(output) as PropertyReport;
  const again = `node dist/test/fuzz/property.js ${name} 1 ${reproduce.join(' ')}`;
  return {
    name,
    executions,
    seconds,
    coverage: '–',
    corpus: '–',
    failure: failure === null ? null : `${failure}\nAgain: ${again}`,
  };
}

/** Runs the tasks, so many at a time. */
async function inJobs<T>(tasks: readonly (() => Promise<T>)[], jobs: number): Promise<T[]> {
  const results: T[] = [];
  const rest = [...tasks];
  const work = async (): Promise<void> => {
    for (let task = rest.shift(); task !== undefined; task = rest.shift()) results.push(await task());
  };
  await Promise.all(Array.from({ length: jobs }, work));
  return results;
}

function row({ name, executions, seconds, coverage, corpus, failure }: Outcome): string[] {
  const rate = Math.round(executions / seconds);
  return [name, `${executions}`, `${rate}`, coverage, corpus, failure === null ? 'passed' : 'FAILED'];
}

function wholeNumber(text: string, flag: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1)
    throw new Error(`--${flag}=${text}: write a whole number from 1 on`);
  return number;
}

function readArguments() {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '20' },
      jobs: { type: 'string', default: '2' },
      only: { type: 'string' },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const { only, keep, help } = values;
  return {
    seconds: wholeNumber(values.seconds, 'seconds'),
    jobs: wholeNumber(values.jobs, 'jobs'),
    only: only === undefined ? null : only.split(','),
    keep,
    help,
  };
}

async function main(): Promise<number> {
  const { seconds, jobs, only, keep, help } = readArguments();
  if (help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const natives = await nativeTargets();
  const properties = PROPERTY_TARGETS.map(({ name }) => name);
  const unknown = only?.find((name) => !natives.includes(name) && !properties.includes(name));
  if (unknown !== undefined) {
    throw new Error(`no target ${unknown}; there are ${[...natives, ...properties].join(', ')}`);
  }
  const wanted = (name: string) => only === null || only.includes(name);
  const chosen = natives.filter(wanted);
  if (chosen.length > 0) await buildNative(chosen);
  const outcomes = await inJobs(
    [
      ...chosen.map((name) => () => fuzzNative(name, seconds)),
      ...properties.filter(wanted).map((name) => () => fuzzProperty(name, seconds)),
    ],
    jobs,
  );
  console.log(formatTable(['target', 'executions', 'a second', 'edges', 'corpus', ''], outcomes.map(row)));
  const failures = outcomes.filter(({ failure }) => failure !== null);
  for (const { name, failure } of failures) console.error(`\n${name}: ${failure ?? ''}`);
  if (keep && failures.length === 0)
    await inJobs(
      chosen.map((name) => () => keepCorpus(name)),
      jobs,
    );
  return failures.length === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
}
