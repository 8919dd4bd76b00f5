#!/usr/bin/env node
/** The command `flanneld`, and `flanneld cleanup`: the only file that ends the process. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { cleanUp } from './cleanup.js';
import { runDaemon } from './daemon.js';
import { FlannelError, UsageError, messageOf } from './errors.js';
import { describeOptions, parseFlags } from './flags.js';
import type { Options } from './flags.js';
import { configureLog, log } from './log.js';

process.exit(await main());

/** The exit status: 0 after a clean end, 2 for a command line that cannot be used, 1 for everything else. */
async function main(): Promise<number> {
  try {
    const [first, ...rest] = process.argv.slice(2);
    const cleaning = first === 'cleanup';
    const command = parseFlags(
      cleaning ? rest : process.argv.slice(2),
      process.env,
      basename(process.argv[1] ?? 'flanneld'),
    );
    if (command.kind === 'version') return print(`${packageVersion()}\n`);
    if (command.kind === 'help') return print(command.text);
    configureLog(command.options);
    for (const warning of command.warnings) log.warning(warning);
    if (cleaning) await cleanUp(command.options);
    else await run(command.options);
    return 0;
  } catch (error) {
    if (!(error instanceof UsageError)) return fail(error);
    print(`flanneld: ${error.message}\n`);
    return 2;
  }
}

async function run(options: Options): Promise<void> {
  log.info(`CLI flags config: ${describeOptions(options)}`);
  const signal = endSignal();
  await runDaemon(options, signal);
  log.info('Exiting cleanly...');
}

/** Fires at the first SIGINT or SIGTERM; the second one ends the process at once. */
function endSignal(): AbortSignal {
  const controller = new AbortController();
  const names = ['SIGINT', 'SIGTERM'] as const;
  const onSignal = () => {
    log.info('shutdownHandler sent cancel signal...');
    for (const name of names) process.off(name, onSignal);
    controller.abort();
  };
  for (const name of names) process.on(name, onSignal);
  return controller.signal;
}

function fail(error: unknown): number {
  // What is not ours is a defect: its origin matters more than one line.
  const text = error instanceof Error && !(error instanceof FlannelError) ? error.stack : undefined;
  log.error(text ?? messageOf(error));
  return 1;
}

function print(text: string): number {
  process.stderr.write(text);
  return 0;
}

function packageVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
  return version;
}
