/**
 * Log lines, one synchronous write each; in klog's form, `Lmmdd hh:mm:ss.uuuuuu PID file.ts:LINE] message`, or as
 * JSON. Secrets are taken out of whatever is logged.
 */
import { writeSync } from 'node:fs';
import { codeOf } from './errors.js';
import { callerOf } from './logging/caller.js';
import { formatEntry } from './logging/format.js';
import type { LogEntry, LogFormat } from './logging/format.js';
import { parseBacktraceLocation, parseVmodule } from './logging/levels.js';
import type { FileLevel, Location } from './logging/levels.js';
import { redact } from './logging/redact.js';

/** Messages of one verbosity level; ask `enabled` before building an expensive message. */
export interface VerboseLog {
  readonly enabled: boolean;
  info(message: string): void;
}

export interface LogOptions {
  /** Messages up to this level are written. */
  readonly v: number;
  /** Levels by file, `pattern=N,...`; see `parseVmodule`. */
  readonly vmodule: string;
  /** `file.ts:LINE` whose message gets a stack trace, or empty. */
  readonly logBacktraceAt: string;
  readonly loggingFormat: LogFormat;
  /** Where whole lines go, newline included. */
  readonly write: (line: string) => void;
}

/** A warning or an error that was logged. */
export interface Problem {
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly severity: 'W' | 'E';
  readonly message: string;
}

type LogFunction = (message: string) => void;

let verbosity = 0;
let fileLevels: readonly FileLevel[] = [];
let backtraceAt: Location | null = null;
let format: LogFormat = 'text';
let write: (line: string) => void = writeToStderr;

function info(message: string): void {
  emit('I', 0, message, info);
}

function warning(message: string): void {
  emit('W', 0, message, warning);
}

function error(message: string): void {
  emit('E', 0, message, error);
}

const KEPT_PROBLEMS = 20;
const problems: Problem[] = [];

/** The last of them, oldest first. */
export function recentProblems(): readonly Problem[] {
  return [...problems];
}

/** Messages that are written only at `-v level` and above, or where -vmodule says so for the calling file. */
function v(level: number): VerboseLog {
  return level <= verbosity || level <= levelOfCaller() ? new EnabledLog(level) : DISABLED;
}

export const log = { info, warning, error, v };

class EnabledLog implements VerboseLog {
  readonly enabled = true;

  constructor(level: number) {
    const writeLine = (message: string): void => {
      emit('I', level, message, writeLine);
    };
    this.info = writeLine;
  }

  readonly info: LogFunction;
}

const DISABLED: VerboseLog = { enabled: false, info: () => undefined };

/**
 * Changes the given settings and leaves the others.
 * @throws UsageError when vmodule or logBacktraceAt cannot be read; nothing is changed then.
 */
export function configureLog(options: Partial<LogOptions>): void {
  const levels = options.vmodule === undefined ? fileLevels : parseVmodule(options.vmodule);
  const location =
    options.logBacktraceAt === undefined ? backtraceAt : parseBacktraceLocation(options.logBacktraceAt);
  fileLevels = levels;
  backtraceAt = location;
  verbosity = options.v ?? verbosity;
  format = options.loggingFormat ?? format;
  write = options.write ?? write;
}

function emit(severity: LogEntry['severity'], level: number, text: string, from: LogFunction): void {
  const entry = { time: new Date(), severity, level, caller: callerOf(from), message: redact(text) };
  if (severity !== 'I') remember({ time: entry.time.getTime(), severity, message: entry.message });
  write(formatEntry(entry, format));
  if (backtraceAt?.line !== entry.caller.line || backtraceAt.file !== entry.caller.file) return;
  const trace: { stack?: string } = {};
  Error.captureStackTrace(trace, from);
  for (const message of trace.stack?.split('\n').slice(1) ?? []) {
    write(formatEntry({ ...entry, message }, format));
  }
}

function remember(problem: Problem): void {
  problems.push(problem);
  if (problems.length > KEPT_PROBLEMS) problems.shift();
}

function levelOfCaller(): number {
  if (fileLevels.length === 0) return -Infinity;
  const name = callerOf(v).file.replace(/\.[^.]*$/, '');
  return fileLevels.find(({ file }) => file.test(name))?.level ?? -Infinity;
}

/**
 * A logger may neither throw nor block for ever. A stderr that somebody set to non-blocking and that is full gets
 * 100 ms to drain; after that, and when it is closed, the rest of the line is lost.
 */
function writeToStderr(line: string): void {
  let rest = Buffer.from(line);
  for (let tries = 0; rest.length > 0 && tries < 100;) {
    try {
      rest = rest.subarray(writeSync(2, rest));
    } catch (error) {
      if (codeOf(error) !== 'EAGAIN') return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
      tries++;
    }
  }
}
