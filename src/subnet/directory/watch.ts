import { watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { stat } from 'node:fs/promises';
import { messageOf } from '../../errors.js';
import { log } from '../../log.js';
import { KnownLeases } from '../entry.js';
import type { StoredLease } from '../../lease/lease.js';
import type { StoreMonitor } from '../health.js';
import type { LeaseEvent } from '../manager.js';
import { isInternal } from './atomic.js';
import type { FolderClock } from './clock.js';
import { decodeFile } from './entry-file.js';
import { liveEntries, readEntries } from './scan.js';

/** How often the folder is looked at where inotify says nothing: other hosts' writes to a shared folder. */
const RESCAN_MS = 1_000;
/** A big folder is looked at less often, so that looking takes at most this part of one core's time. */
const MOST_OF_TIME = 0.1;
/** A write is several events; they are taken together. */
const SETTLE_MS = 10;

/** The watch over a folder of entries: a snapshot, then what changes, expires, or comes back. */
export class DirectoryWatch {
  private readonly known = new KnownLeases();
  /** Revisions by entry name as of the last look; null before the first. */
  private seen: Map<string, string> | null = null;
  private watcher: FSWatcher | null = null;
  private watchedIno: bigint | null = null;
  private dirty = false;
  private wake: () => void = () => undefined;

  constructor(
    private readonly path: string,
    private readonly clock: FolderClock,
    /** Called before each look; whatever it rejects with is left to the next call that needs the store. */
    private readonly maintain: () => Promise<void>,
    private readonly monitor: StoreMonitor,
  ) {}

  /** See LeaseRegistry.watch. */
  async *run(signal: AbortSignal): AsyncGenerator<readonly LeaseEvent[]> {
    let pauseMs = RESCAN_MS;
    try {
      do {
        const started = performance.now();
        try {
          await this.maintain();
          await this.arm();
          const events = await this.look();
          this.monitor.answered();
          this.monitor.tableIs(null);
          pauseMs = Math.max(RESCAN_MS, (performance.now() - started) / MOST_OF_TIME);
          if (events.length > 0) yield events;
        } catch (error) {
          this.monitor.lost(error);
        }
      } while (await this.pause(pauseMs, signal));
    } finally {
      this.watcher?.close();
    }
  }

  /** What has changed since the last look. */
  private async look(): Promise<LeaseEvent[]> {
    const live = await liveEntries(this.path, this.clock.now());
    const before = this.seen;
    const read = new Map<string, StoredLease | null>();
    const changed = [...live].filter(([name, revision]) => before?.get(name) !== revision);
    for (const [name] of changed) live.delete(name);
    const names = changed.map(([name]) => name);
    for (const [name, file] of await readEntries(this.path, names)) {
      live.set(name, file.version.revision);
      read.set(name, decodeFile(name, file));
    }
    this.seen = live;
    if (before === null) return [{ type: 'snapshot', leases: this.known.replace(read) }];
    const events: LeaseEvent[] = [];
    for (const name of before.keys()) {
      const subnet = live.has(name) ? null : this.known.delete(name);
      if (subnet !== null) events.push({ type: 'delete', subnet });
    }
    for (const [name, lease] of read) {
      if (lease === null) continue;
      this.known.put(name, lease);
      events.push({ type: 'put', lease });
    }
    return events;
  }

  /** Has inotify wake the watch. A folder that was deleted and made anew needs a new inotify watch. */
  private async arm(): Promise<void> {
    const { ino } = await stat(this.path, { bigint: true });
    if (this.watcher !== null && this.watchedIno === ino) return;
    this.watcher?.close();
    this.watcher = null;
    try {
      this.watcher = watch(this.path, (_event, name) => {
        if (name === null || !isInternal(name)) this.poke();
      });
      this.watcher.on('error', () => {
        this.watchedIno = null;
      });
      this.watchedIno = ino;
    } catch (error) {
      log.v(1).info(`no inotify for ${this.path}, looking every second instead: ${messageOf(error)}`);
    }
  }

  private poke(): void {
    this.dirty = true;
    this.wake();
  }

  /** Until something has changed or `ms` are over; false once the signal has fired. */
  private async pause(ms: number, signal: AbortSignal): Promise<boolean> {
    if (!this.dirty) await this.sleepUntilPoked(ms, signal);
    if (this.dirty) await this.sleepUntilPoked(SETTLE_MS, signal, false);
    this.dirty = false;
    return !signal.aborted;
  }

  private async sleepUntilPoked(ms: number, signal: AbortSignal, pokeable = true): Promise<void> {
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, ms);
      function done(): void {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      }
      signal.addEventListener('abort', done);
      this.wake = pokeable ? done : () => undefined;
    });
  }
}
