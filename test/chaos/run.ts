/**
 * `npm run test:chaos`: a seed's faults on a real etcd cluster and on the ways to it, with daemons that have to get
 * over each within 10 s and traffic that must not notice. See ../README.md.
 */
import { randomInt } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { inLab, runInLab } from '../../bench/lab.js';
import { formatTable } from '../../bench/table.js';
import { compileProgram } from '../../bench/tools.js';
import type { ProbeFigures } from '../lib/probe.js';
import { FAULTS } from './faults/registry.js';
import { ChaosError, faultsOf, Session } from './session.js';
import type { Episode } from './session.js';
import { World } from './world.js';

/** Its first eight faults have a wiped store, a compaction, a restart and more of the worst among them. */
const SEED = '195';

const HELP = `npm run test:chaos -- [--seed TEXT] [--faults N] [--from N] [--only NAME,…]
  --seed    what everything derives from; 'random' makes one up     (default: ${SEED})
  --faults  the last fault of the seed to run                       (default: 8)
  --from    the first one                                           (default: 1)
  --only    leave out faults but these: ${FAULTS.map(({ name }) => name).join(', ')}
`;

interface Options {
  readonly seed: string;
  readonly faults: number;
  readonly from: number;
  readonly only: readonly string[];
}

const stop = new AbortController();

async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  if (options === null) return print(HELP);
  await compileProgram('test/lib/probe.c');
  if (!inLab()) return runInLab(process.execPath, [fileURLToPath(import.meta.url), ...args]);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      stop.abort();
    });
  }
  return chaos(options);
}

function parseOptions(args: readonly string[]): Options | null {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean', default: false, short: 'h' },
      seed: { type: 'string', default: SEED },
      faults: { type: 'string', default: '8' },
      from: { type: 'string', default: '1' },
      only: { type: 'string', default: '' },
    },
  });
  if (values.help) return null;
  const [faults, from] = [Number(values.faults), Number(values.from)];
  if (!Number.isInteger(faults) || !Number.isInteger(from) || from < 1 || faults < from) {
    throw new Error('--from and --faults must be whole numbers from 1 up, --faults not the smaller one');
  }
  const only = values.only === '' ? [] : values.only.split(',');
  const unknown = only.find((name) => !FAULTS.some((fault) => fault.name === name));
  if (unknown !== undefined) throw new Error(`unknown fault ${unknown}; --help lists what there is`);
  return { seed: values.seed === 'random' ? String(randomInt(1e9)) : values.seed, faults, from, only };
}

async function chaos(options: Options): Promise<number> {
  const { seed } = options;
  print(`seed ${seed}\n`);
  const world = await World.create();
  for (const { name, missing } of FAULTS) {
    const why = missing?.(world);
    if (why !== undefined) print(`without ${name}: ${why}\n`);
  }
  const session = new Session(world, seed, (line) => print(`${line}\n`));
  const episodes: Episode[] = [];
  try {
    await session.begin();
    let number = 0;
    for (const fault of faultsOf(seed, world)) {
      number++;
      if (number > options.faults || stop.signal.aborted) break;
      if (number < options.from || !(options.only.length === 0 || options.only.includes(fault.name)))
        continue;
      const episode = await session.run(number, fault);
      print(`             healed in ${seconds(episode.healedMs)}${lossOf(episode)}\n`);
      episodes.push(episode);
    }
    await session.end();
    const figures = await world.traffic.finish();
    print(summary(episodes, figures, session.changes));
    return stop.signal.aborted ? 130 : 0;
  } catch (error) {
    if (!(error instanceof ChaosError)) throw error;
    const only = options.only.length === 0 ? '' : ` --only ${options.only.join(',')}`;
    const again = `npm run test:chaos -- --seed ${seed} --faults ${error.fault}${only}`;
    print(`${error.logs}\n\nfault ${error.fault} FAILED: ${error.message}\n\n`);
    print(`again from the start:   ${again}\nthis one by itself:     ${again} --from ${error.fault}\n`);
    return 1;
  } finally {
    await session.end();
    await world.close();
  }
}

function lossOf({ lost, gapMs }: Episode): string {
  return lost === 0
    ? ''
    : `; while leases were away ${lost} packets were lost, in a row for ${seconds(gapMs)}`;
}

function summary(episodes: readonly Episode[], directions: readonly ProbeFigures[], changes: number): string {
  const rows = FAULTS.map(({ name }) => ({ name, of: episodes.filter(({ fault }) => fault.name === name) }))
    .filter(({ of }) => of.length > 0)
    .map(({ name, of }) => [
      name,
      String(of.length),
      seconds(Math.max(...of.map(({ healedMs }) => healedMs))),
      String(of.reduce((sum, { lost }) => sum + lost, 0)),
      `${Math.max(...of.map(({ gapMs }) => gapMs)).toFixed(0)} ms`,
    ]);
  const slowest = episodes.reduce((most, { healedMs }) => Math.max(most, healedMs), 0);
  const lines = directions.map(
    ({ sent, lost, duplicated, reordered }, i) =>
      `probe from host ${i + 1} to host ${2 - i}: ${sent} sent, ${lost} lost, ${duplicated} duplicated, ${reordered} reordered`,
  );
  return [
    '',
    formatTable(['fault', 'times', 'slowest healing', 'packets lost', 'longest gap'], rows),
    `${episodes.length} faults, the slowest healed in ${seconds(slowest)}; ${changes} changes of other leases meanwhile`,
    ...lines,
    '',
  ].join('\n');
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`chaos: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 2;
}
