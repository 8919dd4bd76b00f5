/** Where more is logged than elsewhere: the values of -vmodule and -log_backtrace_at. */
import { UsageError } from '../errors.js';

/** A file whose verbosity is set apart. */
export interface FileLevel {
  readonly file: RegExp;
  readonly level: number;
}

/** A line of a source file. */
export interface Location {
  /** Base name. */
  readonly file: string;
  readonly line: number;
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
