/** The commands beside the daemon itself. Each takes all its flags, and switches of its own. */
import { cleanUp } from './cleanup.js';
import { doctor } from './doctor/command.js';
import { UsageError } from './errors.js';
import type { Options } from './flags.js';
import { showStatus } from './status/command.js';

interface Subcommand {
  /** Flags that only this command has, all of them on or off, with a sentence for the help. */
  readonly switches: Readonly<Record<string, string>>;
  /** @returns the exit status. @throws FlannelError */
  run(options: Options, on: ReadonlySet<string>): Promise<number> | number;
}

const SUBCOMMANDS: Readonly<Record<string, Subcommand>> = {
  cleanup: {
    switches: {},
    run: async (options) => {
      await cleanUp(options);
      return 0;
    },
  },
  doctor: {
    switches: {
      json: 'print the findings as a JSON document',
      peers: 'send ICMP echoes of all sizes over the overlay to every other host',
    },
    run: (options, on) => doctor(options, { json: on.has('json'), peers: on.has('peers') }),
  },
  status: {
    switches: {
      json: 'print the status as a JSON document',
      watch: 'look again every second, with rates',
    },
    run: (options, on) => showStatus(options, { json: on.has('json'), watch: on.has('watch') }),
  },
};

export interface Invocation {
  readonly name: string;
  readonly command: Subcommand;
  /** What is left for parseFlags(). */
  readonly args: readonly string[];
  readonly on: ReadonlySet<string>;
}

/** Null where the arguments name no subcommand. @throws UsageError */
export function findSubcommand([name = '', ...args]: readonly string[]): Invocation | null {
  const command = Object.hasOwn(SUBCOMMANDS, name) ? SUBCOMMANDS[name] : undefined;
  if (command === undefined) return null;
  const on = new Set<string>();
  const rest = args.filter((arg) => !takeSwitch(arg, command, on));
  return { name, command, args: rest, on };
}

function takeSwitch(arg: string, { switches }: Subcommand, on: Set<string>): boolean {
  const [, name = '', value = 'true'] = /^--?([^=]+)(?:=(.*))?$/s.exec(arg) ?? [];
  if (!Object.hasOwn(switches, name)) return false;
  if (value !== 'true' && value !== 'false') {
    throw new UsageError(`invalid boolean value ${JSON.stringify(value)} for -${name}; write true or false`);
  }
  if (value === 'true') on.add(name);
  else on.delete(name);
  return true;
}

/** What stands between the program and the flags, such as ` status [--json] [--watch]`. */
export function describeUsage(invocation: Invocation | null): string {
  if (invocation === null) return '';
  const switches = Object.keys(invocation.command.switches).map((name) => ` [--${name}]`);
  return ` ${invocation.name}${switches.join('')}`;
}

/** The lines of the help about the switches. */
export function describeSwitches({ command }: Invocation): string {
  return Object.entries(command.switches)
    .map(([name, help]) => `  -${name}\n    \t${help}\n`)
    .join('');
}
