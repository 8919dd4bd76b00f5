import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError, FlannelError, messageOf, StoreUnavailableError } from '../../errors.js';
import { formatLeaseValue } from '../../lease/lease-value.js';
import type { LeaseAttrs, LeaseSubnet, OwnLease, StoredLease } from '../../lease/lease.js';
import { formatSubnetKey } from '../../lease/subnet-key.js';
import { log } from '../../log.js';
import { isOverlapped } from '../entry.js';
import { StoreMonitor } from '../health.js';
import type { StoreHealth } from '../health.js';
import type { ExpiredLease, LeaseEvent } from '../manager.js';
import type { LeaseRegistry } from '../registry.js';
import { AtomicFolder } from './atomic.js';
import type { NewEntry } from './atomic.js';
import { FolderClock } from './clock.js';
import { decodeFile, isGone, isLive, LIFETIME_MS, readEntry } from './entry-file.js';
import type { EntryVersion } from './entry-file.js';
import { expiredEntries, liveEntries, readEntries } from './scan.js';
import { DirectoryWatch } from './watch.js';

/** The remaining time of an entry that was given up: so long over that no clock brings it back. */
const LONG_EXPIRED_MS = -365 * LIFETIME_MS;

/** How often leftovers are looked for and the folder's clock is read while a watch runs, in milliseconds. */
const MAINTENANCE_MS = 600_000;

/**
 * Subnet leases in a folder, `<dir>/config` and `<dir>/subnets/<subnet-key>`, with the names and bytes that etcd
 * would hold. The folder may be shared by hosts (atomic.ts says why that is safe).
 *
 * An entry holds for 24 h after its mtime, so `touch` renews one; an entry that its owner may not write
 * (`chmod a-w`) is a reservation and holds for good. Readers take an expired entry for none.
 */
export class DirectoryRegistry implements LeaseRegistry {
  private readonly configPath: string;
  private readonly clock = new FolderClock();
  private readonly folder: AtomicFolder;
  private readonly monitor: StoreMonitor;
  private prepared: Promise<void> | null = null;

  constructor(dir: string) {
    this.configPath = join(dir, 'config');
    this.folder = new AtomicFolder(join(dir, 'subnets'), this.clock);
    this.monitor = new StoreMonitor(`the lease directory ${this.folder.path}`);
  }

  async readConfig(signal: AbortSignal): Promise<string> {
    return this.attempt(signal, async () => {
      try {
        const text = await readFile(this.configPath, 'utf8');
        this.monitor.answered();
        return text;
      } catch (error) {
        if (!isGone(error)) {
          this.monitor.failed(error);
          throw error;
        }
        this.monitor.answered();
        throw new ConfigError(
          `flannel config not found: ${this.configPath} does not exist. ` +
            `Write it, e.g.: echo '{"Network":"10.244.0.0/16"}' > ${this.configPath}`,
        );
      }
    });
  }

  async list(signal: AbortSignal): Promise<readonly StoredLease[]> {
    return this.attempt(signal, async () => {
      const live = await liveEntries(this.folder.path, this.clock.now());
      const entries = await readEntries(this.folder.path, [...live.keys()]);
      return entries.map(([name, file]) => decodeFile(name, file)).filter((lease) => lease !== null);
    });
  }

  async expired(signal: AbortSignal): Promise<readonly ExpiredLease[]> {
    return this.attempt(signal, async () => {
      const names = await expiredEntries(this.folder.path, this.clock.now());
      return (await readEntries(this.folder.path, names)).flatMap(([name, file]) => {
        const { expires } = file.version;
        const lease = decodeFile(name, file);
        return lease === null || expires === null ? [] : [{ ...lease, since: expires }];
      });
    });
  }

  async create(
    subnet: LeaseSubnet,
    attrs: LeaseAttrs,
    ttlSeconds: number,
    signal: AbortSignal,
  ): Promise<OwnLease | null> {
    return this.attempt(signal, async () => {
      const made = await this.make(formatSubnetKey(subnet), newEntry(attrs, ttlSeconds), signal);
      if (made === null) return null;
      // Looked at after the entry is there: of two that overlap, one at least sees the other. Both may, and both give way.
      if (subnet.v4 !== null && subnet.v6 !== null) {
        const live = await liveEntries(this.folder.path, this.clock.now());
        if (isOverlapped(subnet, [...live.keys()])) {
          await this.remove(subnet, made.revision, signal);
          return null;
        }
      }
      return this.ownLease(subnet, attrs, made);
    });
  }

  async update(
    subnet: LeaseSubnet,
    attrs: LeaseAttrs,
    revision: string,
    ttlSeconds: number | null,
    signal: AbortSignal,
  ): Promise<OwnLease | null> {
    const entry = newEntry(attrs, ttlSeconds);
    return this.attempt(signal, async () => {
      const made = await this.folder.replace(formatSubnetKey(subnet), revision, entry, signal);
      return made === null ? null : this.ownLease(subnet, attrs, made);
    });
  }

  /** Leaves an expired entry behind, which readers take for none: exactly one version cannot be unlinked. */
  async remove(subnet: LeaseSubnet, revision: string, signal: AbortSignal): Promise<boolean> {
    const name = formatSubnetKey(subnet);
    return this.attempt(signal, async () => {
      const former = await readEntry(join(this.folder.path, name));
      if (former?.version.revision !== revision) return false;
      const expired = { value: former.value, ttlMs: LONG_EXPIRED_MS };
      return (await this.folder.replace(name, revision, expired, signal)) !== null;
    });
  }

  watch(signal: AbortSignal): AsyncIterable<readonly LeaseEvent[]> {
    const maintain = () => this.maintain();
    return new DirectoryWatch(this.folder.path, this.clock, maintain, this.monitor).run(signal);
  }

  get health(): StoreHealth {
    return this.monitor.health;
  }

  close(): void {
    // Nothing is held open between calls.
  }

  /** Makes an entry under a name that nothing, or nothing live, stands under; null when something does. */
  private async make(name: string, entry: NewEntry, signal: AbortSignal): Promise<EntryVersion | null> {
    const made = await this.folder.create(name, entry);
    if (made !== null) return made;
    const former = await readEntry(join(this.folder.path, name));
    if (former === null || isLive(former.version, this.clock.now())) return null;
    return this.folder.replace(name, former.version.revision, entry, signal);
  }

  private ownLease(subnet: LeaseSubnet, attrs: LeaseAttrs, version: EntryVersion): OwnLease {
    const { revision, expires } = version;
    return { subnet, attrs, revision, expiration: expires === null ? null : this.clock.toLocal(expires) };
  }

  /** Runs `step` on the prepared folder; what the file system objects to becomes a StoreUnavailableError. */
  private async attempt<T>(signal: AbortSignal, step: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    try {
      await this.prepare();
      return await step();
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof FlannelError) throw error;
      const remedy = isGone(error) ? `; if it was unmounted or deleted, bring ${this.folder.path} back` : '';
      throw new StoreUnavailableError(`lease directory: ${messageOf(error)}${remedy}`, { cause: error });
    }
  }

  /**
   * Makes the folder, once: when it goes missing later, a shared folder has been unmounted, and a new one in
   * its place would hand out subnets that others hold.
   */
  private prepare(): Promise<void> {
    this.prepared ??= mkdir(this.folder.path, { recursive: true })
      .then(() => this.keepUp())
      .catch((error: unknown) => {
        this.prepared = null;
        throw error;
      });
    return this.prepared;
  }

  private async maintain(): Promise<void> {
    await this.prepare();
    if (this.clock.age() > MAINTENANCE_MS) await this.keepUp();
  }

  /** A folder that can only be read serves readers as well; a writer gets its own error. */
  private async keepUp(): Promise<void> {
    try {
      await this.folder.readClock();
      await this.folder.removeLeftovers();
    } catch (error) {
      log.v(1).info(`lease directory cannot be written: ${messageOf(error)}`);
    }
  }
}

function newEntry(attrs: LeaseAttrs, ttlSeconds: number | null): NewEntry {
  return { value: formatLeaseValue(attrs), ttlMs: ttlSeconds === null ? null : ttlSeconds * 1000 };
}
