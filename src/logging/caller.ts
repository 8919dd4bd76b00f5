/** Which line of the TypeScript source logs. */
import { readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import type { SourceMapPayload } from 'node:module';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Location } from './levels.js';

/** Where the function `callee` was called, as the TypeScript source names it. */
export function callerOf(callee: (...args: never[]) => unknown): Location {
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
