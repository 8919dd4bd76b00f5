import type { LeaseAttrs, LeaseSubnet, OwnLease, StoredLease } from '../lease/lease.js';
import type { StoreHealth } from './health.js';
import type { ExpiredLease, LeaseEvent } from './manager.js';

/**
 * A key/value store that keeps one entry a subnet. This is all that the acquire algorithm needs from it, so
 * etcd and the directory store run the same algorithm (local-manager.ts) and hold the same bytes.
 *
 * Every call takes a signal and rejects with its reason when it fires; every other rejection is a
 * StoreUnavailableError unless said otherwise.
 */
export interface LeaseRegistry {
  /** The config document's text. @throws ConfigError when there is none. */
  readConfig(signal: AbortSignal): Promise<string>;

  /** All well-formed entries; others are skipped with a warning. */
  list(signal: AbortSignal): Promise<readonly StoredLease[]>;

  /** Entries that have run out, as far as the store still knows of them. */
  expired(signal: AbortSignal): Promise<readonly ExpiredLease[]>;

  /** Creates the entry for `ttlSeconds`; null when the key exists (a lost race). */
  create(
    subnet: LeaseSubnet,
    attrs: LeaseAttrs,
    ttlSeconds: number,
    signal: AbortSignal,
  ): Promise<OwnLease | null>;

  /**
   * Writes `attrs` over exactly the version of the entry that `revision` names, and makes it run for
   * `ttlSeconds` from now (null: it stays a reservation). Null when the entry has changed or gone meanwhile.
   * @param tells that this is written to tell a rival, for a store that can keep it (see Writer)
   */
  update(
    subnet: LeaseSubnet,
    attrs: LeaseAttrs,
    revision: string,
    ttlSeconds: number | null,
    signal: AbortSignal,
    tells?: boolean,
  ): Promise<OwnLease | null>;

  /** Deletes exactly the version of the entry that `revision` names; false when it has changed or gone. */
  remove(subnet: LeaseSubnet, revision: string, signal: AbortSignal): Promise<boolean>;

  /** See SubnetManager.watchLeases. */
  watch(signal: AbortSignal): AsyncIterable<readonly LeaseEvent[]>;

  /** See SubnetManager.health. */
  readonly health: StoreHealth;

  close(): void;
}
