#!/usr/bin/env node
/** The command `flanneld` and its subcommands: the only file that ends the process. */
import { basename } from 'node:path';
import { runDaemon } from './daemon.js';
import { FlannelError, UsageError, messageOf } from './errors.js';
import { describeOptions, parseFlags } from './flags.js';
import type { Options } from './flags.js';
import { configureLog, log } from './log.js';
import { redact } from './logging/redact.js';
import { describeSwitches, describeUsage, findSubcommand } from './subcommands.js';
import { VERSION } from './version.js';

process.exit(await main());

/**
 * The exit status: 0 after a clean end, 2 for a command line that cannot be used, 1 for everything else; some
 * subcommands have statuses of their own beside them.
 */
async function main(): Promise<number> {
  try {
    const args = process.argv.slice(2);
    const subcommand = findSubcommand(args);
    const program = basename(process.argv[1] ?? 'flanneld') + describeUsage(subcommand);
    const command = parseFlags(subcommand?.args ?? args, process.env, program);
    if (command.kind === 'version') return print(`${VERSION}\n`);
    if (command.kind === 'help') {
      return print(command.text + (subcommand === null ? '' : describeSwitches(subcommand)));
    }
    configureLog(command.options);
    for (const warning of command.warnings) log.warning(warning);
    if (subcommand !== null) return await subcommand.command.run(command.options, subcommand.on);
    await run(command.options);
    return 0;
  } catch (error) {
    if (!(error instanceof UsageError)) return fail(error);
    print(`flanneld: ${redact(error.message)}\n`);
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
