import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isInternal } from './atomic.js';
import { isLive, readEntry, statEntry } from './entry-file.js';
import type { EntryVersion } from './entry-file.js';

/** How many files are looked at together; Node's thread pool takes fewer, and holds no more descriptors. */
const TOGETHER = 64;

/** The revisions of all live entries by name. @param now folder time in milliseconds */
export async function liveEntries(path: string, now: number): Promise<Map<string, string>> {
  const names = (await readdir(path)).filter((name) => !isInternal(name));
  const live = new Map<string, string>();
  for (const [name, version] of await each(path, names, statEntry)) {
    if (isLive(version, now)) live.set(name, version.revision);
  }
  return live;
}

/** Those of the named entries that (still) are there. */
export function readEntries(
  path: string,
  names: readonly string[],
): Promise<[string, { version: EntryVersion; value: string }][]> {
  return each(path, names, readEntry);
}

async function each<T>(
  path: string,
  names: readonly string[],
  look: (path: string) => Promise<T | null>,
): Promise<[string, T][]> {
  const found: [string, T][] = [];
  for (let at = 0; at < names.length; at += TOGETHER) {
    const some = names
      .slice(at, at + TOGETHER)
      .map(async (name) => [name, await look(join(path, name))] as const);
    for (const [name, result] of await Promise.all(some)) {
      if (result !== null) found.push([name, result]);
    }
  }
  return found;
}
