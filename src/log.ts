/**
 * Log lines in klog's form, one synchronous write each:
 * `Lmmdd hh:mm:ss.uuuuuu PID file.ts:LINE] message`. What the microseconds cannot say is honest zeros: the wall
 * clock here ticks in milliseconds.
 */
import { readFileSync, writeSync } from 'node:fs';
import { SourceMap } from 'node:module';
import type { SourceMapPayload } from 'node:module';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UsageError, codeOf } from './errors.js';

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
  /** Where whole lines go, newline included. */
  readonly write: (line: string) => void;
}

/** A file whose verbosity is set apart. */
export interface FileLevel {
  readonly file: RegExp;
  readonly level: number;
}

/** A warning or an error that was logged. */
export interface Problem {
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly severity: 'W' | 'E';
  readonly message: string;
}

type LogFunction = (message: string) => void;

interface Location {
  readonly file: string;
  readonly line: number;
}

let verbosity = 0;
let fileLevels: readonly FileLevel[] = [];
let backtraceAt: Location | null = null;
let write: (line: string) => void = writeToStderr;

function info(message: string): void {
  emit('I', message, info);
}

function warning(message: string): void {
  emit('W', message, warning);
}

function error(message: string): void {
  emit('E', message, error);
}

const KEPT_PROBLEMS = 20;
const problems: Problem[] = [];

/** The last of them, oldest first. */
export function recentProblems(): readonly Problem[] {
  return [...problems];
}

/** Messages that are written only at `-v level` and above, or where -vmodule says so for the calling file. */
function v(level: number): VerboseLog {
  return level <= verbosity || level <= levelOfCaller() ? ENABLED : DISABLED;
}

export const log = { info, warning, error, v };

const ENABLED: VerboseLog = { enabled: true, info };
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
  write = options.write ?? write;
}

/**
 * Reads `pattern=N,...`. A pattern is a glob (`*`, `?`, `[a-z]`, `[^a]`, `\` quotes) for a file's base name
 * without its extension; the first that matches decides.
 * @throws UsageError
 */
export function parseVmodule(text: string): FileLevel[] {
  const levels: FileLevel[] = [];
  for (const item of text.split(',')) {
    if (item === '') continue; // as after a trailing comma
    const match = /^([^=]+)=([+-]?\d+)$/.exec(item);
    if (match === null) {
      throw new UsageError('write pattern=N, separated by commas, such as udp=2,watch*=4');
    }
    const level = Number(match[2]);
    if (level < 0) throw new UsageError('write a level of 0 or more');
    levels.push({ file: globToRegExp(match[1] ?? ''), level });
  }
  return levels;
}

/**
 * Reads `file.ts:LINE`; empty means nowhere, hence null.
 * @throws UsageError
 */
export function parseBacktraceLocation(text: string): Location | null {
  if (text === '') return null;
  const match = /^([^:]*\.[^:]*):\+?(\d+)$/.exec(text);
  const line = Number(match?.[2]);
  if (match === null || line === 0) throw new UsageError('write file.ts:LINE, such as udp.ts:42');
  return { file: match[1] ?? '', line };
}

function emit(severity: 'I' | 'W' | 'E', message: string, from: LogFunction): void {
  if (severity !== 'I') {
    problems.push({ time: Date.now(), severity, message: oneLine(message) });
    if (problems.length > KEPT_PROBLEMS) problems.shift();
  }
  const { file, line } = callerOf(from);
  const prefix = `${severity}${timestamp(new Date())} ${String(process.pid).padStart(7)} ${file}:${line}] `;
  write(`${prefix}${oneLine(message)}\n`);
  if (backtraceAt?.line !== line || backtraceAt.file !== file) return;
  const trace: { stack?: string } = {};
  Error.captureStackTrace(trace, from);
  for (const frame of trace.stack?.split('\n').slice(1) ?? []) write(`${prefix}${oneLine(frame)}\n`);
}

/** Escaped, not indented: text from the network or a store must be unable to pose as a line of its own. */
function oneLine(message: string): string {
  return message.replace(/(?!\t)[\p{Cc}\u2028\u2029]/gu, (char) => {
    if (char === '\n') return '\\n';
    if (char === '\r') return '\\r';
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

function timestamp(now: Date): string {
  const two = (n: number) => String(n).padStart(2, '0');
  const date = `${two(now.getMonth() + 1)}${two(now.getDate())}`;
  const time = `${two(now.getHours())}:${two(now.getMinutes())}:${two(now.getSeconds())}`;
  return `${date} ${time}.${String(now.getMilliseconds()).padStart(3, '0')}000`;
}

function levelOfCaller(): number {
  if (fileLevels.length === 0) return -Infinity;
  const name = callerOf(v).file.replace(/\.[^.]*$/, '');
  return fileLevels.find(({ file }) => file.test(name))?.level ?? -Infinity;
}

/** Where the function `callee` was called, as the TypeScript source names it. */
function callerOf(callee: LogFunction | typeof v): Location {
  const { stackTraceLimit } = Error;
  const trace: { stack?: string } = {};
  Error.stackTraceLimit = 1;
  Error.captureStackTrace(trace, callee);
  Error.stackTraceLimit = stackTraceLimit;
  const frame = /(?:at |\()([^()]+):(\d+):(\d+)\)?$/.exec(trace.stack ?? '');
  const [, place, line, column] = frame ?? [];
  if (place === undefined) return { file: '???', line: 1 }; // klog's way to say so
  return sourceLocation(place.replace(/^async /, ''), Number(line), Number(column));
}

const sourceMaps = new Map<string, SourceMap | null>();

/** The compiler leaves `x.js.map` beside `x.js`; without it the line is that of the JavaScript. */
function sourceLocation(place: string, line: number, column: number): Location {
  const path = place.startsWith('file:') ? fileURLToPath(place) : place;
  let map = sourceMaps.get(path);
  if (map === undefined) {
    map = readSourceMap(`${path}.map`);
    sourceMaps.set(path, map);
  }
  const entry = map?.findEntry(line - 1, column - 1);
  if (entry !== undefined && 'originalLine' in entry) {
    return { file: basename(entry.originalSource), line: entry.originalLine + 1 };
  }
  return { file: basename(path).replace(/\.js$/, '.ts'), line };
}

function readSourceMap(path: string): SourceMap | null {
  try {
    return new SourceMap(JSON.parse(readFileSync(path, 'utf8')) as SourceMapPayload);
  } catch {
    return null;
  }
}

function globToRegExp(glob: string): RegExp {
  const tokens = glob.match(/\\.|\[\^?(?:\\.|[^\\\]])+\]|[^\\[]/gs) ?? [];
  const pattern = tokens.map((token) => {
    if (token === '*') return '.*';
    if (token === '?') return '.';
    if (token.startsWith('[')) return token.replace(/\\(\w)/g, '$1');
    return token.replace(/^\\/, '').replace(/\W/, '\\$&');
  });
  try {
    if (tokens.join('') === glob) return new RegExp(`^${pattern.join('')}$`, 's');
  } catch {
    // a range such as [z-a]; reported below
  }
  throw new UsageError(`mend the brackets or the backslash in ${glob}`);
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
