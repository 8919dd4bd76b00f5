/**
 * `node property.js NAME SECONDS [SEED PATH]`: one target by properties, for so long or over the one input that seed
 * and path name. Prints what came of it as JSON.
 */
import fc from 'fast-check';
import { configureLog } from '../../src/log.js';
import { FILE_TARGETS } from './targets/files.js';
import { TEXT_TARGETS } from './targets/texts.js';

export const PROPERTY_TARGETS = [...TEXT_TARGETS, ...FILE_TARGETS];

export interface PropertyReport {
  readonly executions: number;
  readonly failure: string | null;
  /** That run it again: seed and path of the smallest input that fails. */
  readonly reproduce: readonly string[];
}

const ENDLESS = 1_000_000_000;

async function runTarget(name: string, seconds: number, again: readonly string[]): Promise<PropertyReport> {
  const target = PROPERTY_TARGETS.find((one) => one.name === name);
  if (target === undefined) throw new Error(`no target ${name}`);
  const [seed, path] = again;
  const result = await fc.check(target.property, {
    numRuns: path === undefined ? ENDLESS : 1,
    interruptAfterTimeLimit: seconds * 1000,
    ...(seed === undefined ? {} : { seed: Number(seed) }),
    ...(path === undefined ? {} : { path }),
  });
  const failure = result.failed
    ? `${fc.defaultReportMessage(result)}
${String(result.errorInstance)}`
    : null;
  return {
    executions: result.numRuns,
    failure,
    reproduce: [String(result.seed), result.counterexamplePath ?? ''],
  };
}

const [name, seconds, ...again] = process.argv.slice(2);
if (name !== undefined && process.argv[1]?.endsWith('property.js')) {
  configureLog({ write: () => undefined });
  const report = await runTarget(name, Number(seconds), again);
  console.log(JSON.stringify(report));
  if (report.failure !== null) console.error(report.failure);
  process.exitCode = report.failure === null ? 0 : 1;
}
