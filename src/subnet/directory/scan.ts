import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isInternal } from './atomic.js';
import { isLive, readEntry, statEntry } from './entry-file.js';
import type { EntryFile, EntryVersion } from './entry-file.js';

/** How many files are looked at together; Node's thread pool takes fewer, and holds no more descriptors. */
const TOGETHER = 64;

/** The revisions of all live entries by name. @param now folder time in milliseconds */
export async function liveEntries(path: string, now: number): Promise<Map<string, string>> {
  const live = new Map<string, string>();
  for (const [name, version] of await allEntries(path)) {
    if (isLive(version, now)) live.set(name, version.revision);
  }
  return live;
}

/** The names of all entries that have run out. @param now folder time in milliseconds */
export async function expiredEntries(path: string, now: number): Promise<string[]> {
  const all = await allEntries(path);
  return all.filter(([, version]) => !isLive(version, now)).map(([name]) => name);
}

async function allEntries(path: string): Promise<[string, EntryVersion][]> {
  const names = (await readdir(path)).filter((name) => !isInternal(name));
  return each(path, names, statEntry);
}

/** Those of the named entries that (still) are there. */
export function readEntries(path: string, names: readonly string[]): Promise<[string, EntryFile][]> {
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
