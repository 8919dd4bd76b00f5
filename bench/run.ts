/** `npm run bench`: packet dataplanes against each other. See README.md. */
import { appendFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { inLab, runInLab } from './lab.js';
import { HELP, UsageError, parseOptions } from './options.js';
import type { BenchOptions } from './options.js';
import { CONTENDERS } from './contenders/registry.js';
import { formatChart } from './report/chart.js';
import { describeMachine } from './report/machine.js';
import { formatReport } from './report/markdown.js';
import { METRICS, formatMetric } from './report/metrics.js';
import { buildResult } from './report/result.js';
import { Session } from './session.js';
import type { Sample } from './session.js';
import { compileTool, hasCommand } from './tools.js';
import { TRIALS } from './trials/registry.js';
import { PLAIN } from './trials/trial.js';
import type { Trial } from './trials/trial.js';

/** 128 + SIGINT, as a shell would say it. */
const INTERRUPTED = 130;
const stop = new AbortController();
const started = performance.now();

async function main(args: readonly string[]): Promise<number> {
  const command = parseOptions(args);
  if (command.kind === 'help') return print(HELP);
  if (command.kind === 'list') return print(await list());
  // Compiled out here: inside the lab a user may be mapped to root, and files would look different.
  await compileTool('traffic');
  if (!inLab()) return runInLab(process.execPath, [fileURLToPath(import.meta.url), ...args]);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, interrupt);
  return bench(command.options, args);
}

async function bench(options: BenchOptions, args: readonly string[]): Promise<number> {
  const { trials, contenders, rounds, seconds, limits, budget } = options;
  // A file that cannot be written is better known now than after an hour.
  for (const file of [options.json, options.svg]) if (file !== null) await appendFile(file, '');
  const date = new Date();
  const deadline = started + budget * 1000;
  const session = new Session({ ...options, deadline, say, describe }, stop.signal);
  await session.run();
  const result = buildResult(
    {
      command: ['npm run bench --', ...args.map(quoted)].join(' '),
      started: date.toISOString(),
      seconds: (performance.now() - started) / 1000,
      machine: describeMachine(),
      settings: { rounds, sampleSeconds: seconds, limits },
      contenders: contenders.map(({ name, summary }) => ({ name, summary })),
      interrupted: stop.signal.aborted,
    },
    trials,
    session.result(),
  );
  print(formatReport(result, trials));
  if (options.json !== null) await writeFile(options.json, `${JSON.stringify(result, null, 1)}\n`);
  if (options.svg !== null) await writeFile(options.svg, formatChart(result, trials));
  if (stop.signal.aborted) return INTERRUPTED;
  return result.failures === 0 && result.figures.length > 0 ? 0 : 1;
}

/** One sample in the progress: the figure that its trial is about. */
function describe(trial: Trial, { trial: label, contender, values, error }: Sample): string {
  const name = label === trial.name ? contender : `${contender} ${label}`;
  const [metric] = trial.metrics;
  const value = values[metric];
  if (error !== null || value === undefined) return `${name} failed`;
  return `${name} ${formatMetric(metric, value)} ${METRICS[metric].title}`;
}

/** What there is, and what cannot be had here. */
async function list(): Promise<string> {
  const lines = ['Contenders'];
  for (const contender of CONTENDERS) {
    const { name, summary } = contender;
    const reason = await contender.unavailable(PLAIN);
    lines.push(
      `  ${name.padEnd(16)}${summary}${reason === null ? '' : `\n${' '.repeat(18)}not here: ${reason}`}`,
    );
  }
  lines.push('', 'Trials (* with --quick)');
  for (const { name, summary, quick, needs } of TRIALS) {
    const lacking = needs.filter((command) => !hasCommand(command));
    const reason =
      lacking.length === 0 ? '' : `\n${' '.repeat(18)}not here: ${lacking.join(', ')} is not installed`;
    lines.push(`${quick ? '*' : ' '} ${name.padEnd(16)}${summary}${reason}`);
  }
  return `${lines.join('\n')}\n`;
}

function interrupt(): void {
  if (!stop.signal.aborted) say('stopping; what was measured so far follows');
  stop.abort();
}

function say(line: string): void {
  const time = ((performance.now() - started) / 1000).toFixed(1).padStart(6);
  process.stderr.write(`[${time} s] ${line}\n`);
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

/** An argument as it would be typed. */
function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
