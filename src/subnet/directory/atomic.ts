import { randomUUID } from 'node:crypto';
import { link, mkdir, open, readdir, rename, rm, rmdir, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '../../errors.js';
import { sleep } from '../../retry.js';
import type { FolderClock } from './clock.js';
import { isGone, LIFETIME_MS, statEntry, versionOf } from './entry-file.js';
import type { EntryVersion } from './entry-file.js';

/**
 * Create and compare-and-swap on files, out of nothing but link(2) and rename(2), for any number of processes
 * on any number of hosts, each of which may stop for ever, or for an hour, between any two system calls.
 *
 * Create: the complete content is staged under a name of its own and linked to the entry's name, which fails
 * when that exists.
 *
 * Replace exactly version v of entry K by a file staged as P:
 *   1. P is put into a directory D of its own, and D is renamed to `.next-K@v`. rename(2) puts a directory in
 *      the place of an empty one only, so one contender at a time holds this slot.
 *   2. If K is not v (any more), the swap has failed: P is withdrawn, and with it D.
 *   3. `.next-K@v/P` is renamed to K: the swap. It leaves the slot empty, which the next step removes.
 * A contender that finds the slot held for longer than anybody takes renames it out of the way and goes on.
 * Whoever wakes up after that fails in step 3, since its P is no longer below `.next-K@v`. So a successful
 * step 3 means that P was in the slot ever since step 1, hence nobody else replaced v, hence K was still v.
 *
 * There is no way to delete exactly version v. So an entry is given up by a swap for one that has expired, and
 * an expired entry stays until somebody takes its place by a swap for his own. A deletion by hand is honoured;
 * done within the microseconds between a swap's steps 2 and 3 it is undone.
 */

const STAGED = '.tmp-';
const SLOT = '.next-';

/** A slot is held for a few system calls. */
const SLOT_STALE_MS = 10_000;
const SLOT_POLL_MS = 20;
/** What a crash left behind is removed after this long. */
const LEFTOVER_MS = 600_000;

/** What an entry is to become. */
export interface NewEntry {
  readonly value: string;
  /** From now; null for a reservation; negative for one that has expired already. */
  readonly ttlMs: number | null;
}

/** Neither an entry nor anything a reader should mention. */
export function isInternal(name: string): boolean {
  return name.startsWith('.');
}

export class AtomicFolder {
  constructor(
    readonly path: string,
    private readonly clock: FolderClock,
  ) {}

  /** The version made, or null when something stands under `name`. */
  async create(name: string, entry: NewEntry): Promise<EntryVersion | null> {
    const staged = this.stagedName();
    const made = await this.write(staged, entry);
    try {
      await link(this.at(staged), this.at(name));
      return made;
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
      // NFS may do the work, lose the answer and repeat the request.
      return (await statEntry(this.at(name)))?.ino === made.ino ? made : null;
    } finally {
      await unlink(this.at(staged)).catch(ignoreGone);
    }
  }

  /** The version made, or null when `revision` is not what stands under `name`. */
  async replace(
    name: string,
    revision: string,
    entry: NewEntry,
    signal: AbortSignal,
  ): Promise<EntryVersion | null> {
    const slot = `${SLOT}${name}@${revision}`;
    for (;;) {
      signal.throwIfAborted();
      const staged = this.stagedName();
      await mkdir(this.at(staged));
      try {
        const made = await this.write(join(staged, staged), entry);
        if (!(await this.enter(staged, slot, name, revision, signal))) return null;
        const outcome = await this.swap(join(slot, staged), name, revision, made);
        if (outcome !== 'ousted') return outcome === 'done' ? made : null;
      } finally {
        await unlink(this.at(join(slot, staged))).catch(ignoreGone);
        await rmdir(this.at(slot)).catch(ignoreGone);
        await rm(this.at(staged), { recursive: true, force: true });
      }
    }
  }

  /** Reads the folder's clock by writing a file. */
  async readClock(): Promise<void> {
    const staged = this.stagedName();
    try {
      await this.write(staged, { value: '', ttlMs: null });
    } finally {
      await unlink(this.at(staged)).catch(ignoreGone);
    }
  }

  /** Removes what crashed processes have left. One that was merely asleep fails its swap and repeats it. */
  async removeLeftovers(): Promise<void> {
    for (const name of await readdir(this.path)) {
      if (!name.startsWith(STAGED) && !name.startsWith(SLOT)) continue;
      const age = await this.heldFor(name);
      if (age === null || age < LEFTOVER_MS) continue;
      if (name.startsWith(SLOT)) await this.clear(name);
      else await rm(this.at(name), { recursive: true, force: true });
    }
  }

  /** Step 1. False when `name` is not at `revision` and there is nothing to wait for. */
  private async enter(
    staged: string,
    slot: string,
    name: string,
    revision: string,
    signal: AbortSignal,
  ): Promise<boolean> {
    for (;;) {
      try {
        await rename(this.at(staged), this.at(slot));
        return true;
      } catch (error) {
        if (codeOf(error) !== 'ENOTEMPTY' && codeOf(error) !== 'EEXIST') throw error;
      }
      if ((await statEntry(this.at(name)))?.revision !== revision) return false;
      const age = await this.heldFor(slot);
      if (age !== null && age > SLOT_STALE_MS) await this.clear(slot);
      else if (!(await sleep(SLOT_POLL_MS, signal))) signal.throwIfAborted();
    }
  }

  /** Steps 2 and 3. */
  private async swap(
    held: string,
    name: string,
    revision: string,
    made: EntryVersion,
  ): Promise<'done' | 'changed' | 'ousted'> {
    if ((await statEntry(this.at(name)))?.revision !== revision) {
      return 'changed';
    }
    try {
      await rename(this.at(held), this.at(name));
      return 'done';
    } catch (error) {
      if (!isGone(error)) throw error;
      return (await statEntry(this.at(name)))?.ino === made.ino ? 'done' : 'ousted';
    }
  }

  private async clear(slot: string): Promise<void> {
    const aside = this.stagedName();
    try {
      await rename(this.at(slot), this.at(aside));
      await rm(this.at(aside), { recursive: true, force: true });
    } catch (error) {
      ignoreGone(error);
    }
  }

  /** Milliseconds since `name` was put where it is; null when it is not there. */
  private async heldFor(name: string): Promise<number | null> {
    try {
      return this.clock.now() - (await stat(this.at(name))).ctimeMs;
    } catch (error) {
      if (isGone(error)) return null;
      throw error;
    }
  }

  private async write(name: string, { value, ttlMs }: NewEntry): Promise<EntryVersion> {
    const file = await open(this.at(name), 'wx', 0o644);
    try {
      await file.writeFile(value);
      this.clock.set((await file.stat()).mtimeMs);
      const mtimeMs = this.clock.now() + (ttlMs ?? LIFETIME_MS) - LIFETIME_MS;
      const seconds = Math.floor(mtimeMs / 1000) + ((mtimeMs % 1000) + Math.random()) / 1000;
      await file.utimes(seconds, seconds);
      // Not left to the umask: whether the owner may write has a meaning here, and peers have to read.
      await file.chmod(ttlMs === null ? 0o444 : 0o644);
      await file.sync();
      return versionOf(await file.stat({ bigint: true }));
    } finally {
      await file.close();
    }
  }

  private stagedName(): string {
    return STAGED + randomUUID();
  }

  private at(name: string): string {
    return join(this.path, name);
  }
}

function ignoreGone(error: unknown): void {
  // ENOTEMPTY: the slot is the next contender's by now.
  if (!isGone(error) && codeOf(error) !== 'ENOTEMPTY') throw error;
}
