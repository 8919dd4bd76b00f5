/**
 * `npm run test:handover`: a flanneld that is replaced, killed and stood in for, with 10,000 numbered packets a second
 * each way and a TCP stream beside them. See ../README.md.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { inLab, runInLab } from '../../bench/lab.js';
import { formatTable } from '../../bench/table.js';
import { compileProgram } from '../../bench/tools.js';
import type { ProbeFigures } from '../lib/probe.js';
import { handOver, killWithoutStandby, killWithStandby, restartWithStandby } from './trials.js';
import type { Outcome, Trial } from './trials.js';

const HELP = `npm run test:handover -- [--times N] [--kills N]
  --times  hand-overs from a running flanneld to the next, and restarts with one that stands by  (default: 5)
  --kills  kill -9 and restarts, with and without one that stands by                            (default: 3)
`;

async function main(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean', default: false, short: 'h' },
      times: { type: 'string', default: '5' },
      kills: { type: 'string', default: '3' },
    },
  });
  if (values.help) return print(HELP);
  const [times, kills] = [Number(values.times), Number(values.kills)];
  if (!Number.isInteger(times) || !Number.isInteger(kills) || times < 1 || kills < 1) {
    throw new Error('--times and --kills must be whole numbers from 1 up');
  }
  await compileProgram('test/lib/probe.c');
  if (!inLab()) return runInLab(process.execPath, [fileURLToPath(import.meta.url), ...args]);

  const trials: readonly (readonly [string, Trial, number])[] = [
    ['hand-over', handOver, times],
    ['SIGTERM and start, with a standby', restartWithStandby, times],
    ['kill -9 and start, with a standby', killWithStandby, kills],
    ['kill -9 and start', killWithoutStandby, kills],
  ];
  const outcomes: [string, number, Outcome][] = [];
  for (const [name, trial, count] of trials) {
    outcomes.push([name, count, await trial(count)]);
  }
  print(`${formatTable(HEAD, outcomes.flatMap(rows))}\n`);
  const problems = outcomes.flatMap(([name, , { problems: some }]) =>
    some.map((problem) => `${name}: ${problem}`),
  );
  for (const problem of problems) print(`${problem}\n`);
  return problems.length === 0 ? 0 : 1;
}

const HEAD = ['trial', 'times', 'way', 'sent', 'lost', 'doubled', 'reordered', 'longest gap', 'TCP'] as const;

function rows([name, count, { forth, back, streamed }]: [string, number, Outcome]): string[][] {
  const row = (first: string[], way: string, { sent, lost, duplicated, reordered, gapMs }: ProbeFigures) => [
    ...first,
    way,
    ...[sent, lost, duplicated, reordered].map(String),
    `${gapMs.toFixed(1)} ms`,
  ];
  return [
    [...row([name, String(count)], '→', forth), `${(streamed / 1e6).toFixed(0)} MB`],
    [...row(['', ''], '←', back), ''],
  ];
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

process.exitCode = await main(process.argv.slice(2));
