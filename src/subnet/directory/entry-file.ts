import { constants } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { codeOf } from '../../errors.js';
import type { StoredLease } from '../../lease/lease.js';
import { decodeEntry } from '../entry.js';

/** How long an entry holds after its mtime, in milliseconds. */
export const LIFETIME_MS = 86_400_000;

/** More than any store keeps under a key (etcd's limit for a request is 1.5 MiB). */
const MOST_BYTES = 1 << 20;

const OWNER_WRITE = 0o200n;

/** One version of an entry's file. */
export interface EntryVersion {
  /**
   * Names this version among all that ever stand under the name: every write makes a new inode and gives it an
   * mtime with random microseconds, and an edit or a chmod by hand changes one of the four.
   */
  readonly revision: string;
  readonly ino: bigint;
  /** Folder time in milliseconds; null for a reservation. */
  readonly expires: number | null;
}

/**
 * The version a stat shows. A file that its owner may not write (`chmod a-w`) is a reservation. A mode survives
 * what a timestamp does not: cp, tar, an image with baked-in peers; and `ls -l` shows it.
 */
export function versionOf(stats: BigIntStats): EntryVersion {
  const reserved = (stats.mode & OWNER_WRITE) === 0n;
  return {
    revision: `${stats.ino}.${stats.mtimeNs}.${stats.size}.${reserved ? 'r' : 'w'}`,
    ino: stats.ino,
    expires: reserved ? null : Number(stats.mtimeNs) / 1e6 + LIFETIME_MS,
  };
}

export function isLive(version: EntryVersion, now: number): boolean {
  return version.expires === null || version.expires > now;
}

/** The version that stands at `path` now; null when nothing does, or nothing that is a file. */
export async function statEntry(path: string): Promise<EntryVersion | null> {
  try {
    const stats = await stat(path, { bigint: true });
    return stats.isFile() ? versionOf(stats) : null;
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

/** A version and its bytes, which belong together whatever happens to the name meanwhile. */
export interface EntryFile {
  readonly version: EntryVersion;
  readonly value: string;
}

/** The lease that a file stands for, or null after a warning. A file shows nothing of who wrote it. */
export function decodeFile(name: string, { version, value }: EntryFile): StoredLease | null {
  const lease = decodeEntry(name, value);
  if (lease === null) return null;
  const { revision, expires } = version;
  return { ...lease, revision, reservation: expires === null, writer: 'unknown' };
}

export async function readEntry(path: string): Promise<EntryFile | null> {
  try {
    // A pipe that somebody left here must not hold up the reader.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = await file.stat({ bigint: true });
      if (!stats.isFile()) return null;
      const value = stats.size > MOST_BYTES ? '' : await file.readFile('utf8');
      return { version: versionOf(stats), value };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}

/** Nothing (any more) under this name. */
export function isGone(error: unknown): boolean {
  const code = codeOf(error);
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'ESTALE';
}
