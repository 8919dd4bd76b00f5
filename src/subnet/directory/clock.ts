import { log } from '../../log.js';

/** Beyond this many milliseconds the clocks disagree by more than granularity and network explain. */
const NOTEWORTHY_MS = 5_000;

/**
 * The time as the folder's file system keeps it. Hosts that share a folder judge the age of an entry by this
 * one clock, so it does not matter how wrong their own clocks are. Between two readings the monotonic clock
 * counts on, which no clock adjustment makes jump.
 */
export class FolderClock {
  private folderMs = Date.now();
  private readAt = performance.now();
  private warned = false;

  /** Milliseconds since the epoch. */
  now(): number {
    return this.folderMs + this.age();
  }

  /** Milliseconds since the last reading. */
  age(): number {
    return performance.now() - this.readAt;
  }

  /** Takes a reading: the time that the file system gave to a file written just now. */
  set(mtimeMs: number): void {
    this.folderMs = mtimeMs;
    this.readAt = performance.now();
    const ahead = mtimeMs - Date.now();
    if (Math.abs(ahead) > NOTEWORTHY_MS && !this.warned) {
      this.warned = true;
      log.warning(
        `the clock of the lease directory is ${(ahead / 1000).toFixed(0)} s off this host's; ` +
          'leases are timed by the former',
      );
    }
  }

  /** The same moment on this host's clock, milliseconds since the epoch. */
  toLocal(folderMs: number): number {
    return Date.now() + (folderMs - this.now());
  }
}
