/** What a log line looks like. */
import type { Location } from './levels.js';

export type LogFormat = 'text' | 'json';

export interface LogEntry {
  readonly time: Date;
  readonly severity: 'I' | 'W' | 'E';
  /** The verbosity that it takes to see it. */
  readonly level: number;
  readonly caller: Location;
  readonly message: string;
}

const SEVERITIES = { I: 'info', W: 'warning', E: 'error' } as const;

/** A line, newline included. */
export function formatEntry(entry: LogEntry, format: LogFormat): string {
  return format === 'json' ? formatJson(entry) : formatText(entry);
}

/** As Kubernetes' components do with --logging-format=json: `ts` is in milliseconds since the epoch. */
function formatJson({ time, severity, level, caller, message }: LogEntry): string {
  const entry = {
    ts: time.getTime(),
    level: SEVERITIES[severity],
    caller: `${caller.file}:${caller.line}`,
    msg: message,
    ...(severity === 'I' && { v: level }),
  };
  return `${JSON.stringify(entry)}\n`;
}

/**
 * klog's form. What the microseconds cannot say is honest zeros: the wall clock here ticks in milliseconds.
 */
function formatText({ time, severity, caller, message }: LogEntry): string {
  const { file, line } = caller;
  const prefix = `${severity}${timestamp(time)} ${String(process.pid).padStart(7)} ${file}:${line}] `;
  return `${prefix}${oneLine(message)}\n`;
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
