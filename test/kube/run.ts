/**
 * `npm run test:kube`: daemons in a cluster with a real kube-apiserver, first one thing after the other, then a seed's
 * faults. See ../README.md.
 */
import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { inLab, runInLab } from '../../bench/lab.js';
import { compileProgram } from '../../bench/tools.js';
import { findApiServer } from '../lib/kube-apiserver.js';
import { runChaos } from './chaos.js';

const SEED = '7';
const HELP = `npm run test:kube -- [--seed TEXT] [--faults N] [--only-faults]
  --seed         what the faults derive from; 'random' makes one up   (default: ${SEED})
  --faults       how many of the seed's faults to run, 0 for none     (default: 10)
  --only-faults  leave out the tests before them
`;

async function main(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean', default: false, short: 'h' },
      seed: { type: 'string', default: SEED },
      faults: { type: 'string', default: '10' },
      'only-faults': { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const faults = Number(values.faults);
  if (!Number.isInteger(faults) || faults < 0) throw new Error('--faults must be a whole number');
  if (!inLab()) {
    await findApiServer();
    await compileProgram('test/lib/probe.c');
    return runInLab(process.execPath, [fileURLToPath(import.meta.url), ...args]);
  }
  const status = values['only-faults'] ? 0 : runTests();
  if (status !== 0 || faults === 0) return status;
  const seed = values.seed === 'random' ? String(randomInt(1e9)) : values.seed;
  await runChaos(seed, faults, (line) => {
    process.stdout.write(`${line}\n`);
  });
  return 0;
}

function runTests(): number {
  const folder = dirname(fileURLToPath(import.meta.url));
  const files = readdirSync(folder).filter((name) => name.endsWith('.test.js'));
  const flags = ['--test', '--test-reporter=spec', '--test-concurrency=1', '--test-timeout=600000'];
  const { status } = spawnSync(process.execPath, [...flags, ...files.map((name) => join(folder, name))], {
    stdio: 'inherit',
  });
  return status ?? 1;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`kube: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 1;
}
