/** The programs that the benchmarks are made with: own ones, compiled on first use, and those of the system. */
import { execFile } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { accessSync, constants, existsSync, readdirSync, statSync } from 'node:fs';
import { mkdir, rename } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { basename, delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Host } from './topology.js';

const run = promisify(execFile);

/** The checkout. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BUILD = join(ROOT, 'build-bench');

export type ToolName = 'traffic' | 'classic-loop';

/** compileProgram for bench/NAME.c. */
export async function compileTool(name: ToolName): Promise<string> {
  return compileProgram(`bench/${name}.c`);
}

/**
 * Compiles a C file, given by its path in the checkout, unless that is done. Resolves with the program's path.
 * @throws Error with the remedy.
 */
export async function compileProgram(file: string): Promise<string> {
  return compile(file, '', ['-pthread']);
}

/** The same to a shared library, for LD_PRELOAD. */
export async function compileLibrary(file: string): Promise<string> {
  return compile(file, '.so', ['-shared', '-fPIC']);
}

async function compile(file: string, suffix: string, flags: readonly string[]): Promise<string> {
  const source = join(ROOT, file);
  const program = join(BUILD, basename(file, '.c') + suffix);
  if (existsSync(program) && statSync(program).mtimeMs > changedAt(source)) return program;
  const compiler = [process.env.CC ?? '', 'cc', 'gcc', 'clang'].find(
    (command) => command !== '' && hasCommand(command),
  );
  if (compiler === undefined) {
    throw new Error(`${file} needs a C compiler: install gcc or clang, or name one with CC`);
  }
  await mkdir(BUILD, { recursive: true });
  // Renamed when it is whole: others may compile the same file at this moment, or run it already.
  const partial = `${program}.${randomUUID()}`;
  try {
    await run(compiler, ['-O2', '-Wall', '-Wextra', ...flags, '-o', partial, source]);
    await rename(partial, program);
  } catch (error) {
    throw new Error(`cannot compile ${file}: ${String((error as { stderr?: string }).stderr)}`, {
      cause: error,
    });
  }
  return program;
}

/** When a C file, or a header beside it, was last changed. */
function changedAt(source: string): number {
  const folder = dirname(source);
  const headers = readdirSync(folder).filter((name) => name.endsWith('.h'));
  return Math.max(
    ...[source, ...headers.map((name) => join(folder, name))].map((file) => statSync(file).mtimeMs),
  );
}

/** Whether a command can be run. */
export function hasCommand(command: string): boolean {
  // A user's PATH often lacks the folders of ip, ethtool and bridge.
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** A tool that runs beside others and answers line by line. */
export class RunningTool {
  private readonly lines: AsyncIterator<string>;
  private errors = '';

  private constructor(
    private readonly name: string,
    private readonly child: ChildProcess,
  ) {
    if (child.stdout === null || child.stderr === null) throw new Error(`${name} has no output`);
    this.lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.errors += text));
    // A child that cannot be started ends its output, which the reader of the next line is told.
    child.once('error', (error) => (this.errors += error.message));
  }

  /** Starts it and waits for the first line that matches. @throws Error when it ends before. */
  static async start(
    host: Host,
    command: string,
    args: readonly string[],
    ready: RegExp,
  ): Promise<RunningTool> {
    const tool = new RunningTool(command, host.spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] }));
    try {
      while (!ready.test(await tool.line()));
    } catch (error) {
      await tool.kill();
      throw error;
    }
    return tool;
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  /** The next line of its output. @throws Error with what it complained of when there is none. */
  async line(): Promise<string> {
    const next = await this.lines.next();
    if (next.done === true)
      throw new Error(`${this.name} ended early: ${this.errors.trim() || 'without a word'}`);
    return next.value;
  }

  /** Sends it an empty line and resolves with its answer, a line of JSON. */
  async ask<T>(): Promise<T> {
    this.child.stdin?.write('\n');
    return JSON.parse(await this.line()) as T;
  }

  /** Tells it to end by closing its input; resolves with its last word. */
  async finish<T>(): Promise<T> {
    this.child.stdin?.end();
    const answer = JSON.parse(await this.line()) as T;
    await this.closed();
    return answer;
  }

  /** Asks it to end, and waits until it has. */
  async terminate(): Promise<void> {
    this.child.kill('SIGTERM');
    await this.closed();
  }

  /** Ends it. Idempotent. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.closed();
  }

  private async closed(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null || this.child.pid === undefined)
      return;
    await new Promise((resolve) => this.child.once('exit', resolve));
  }
}
