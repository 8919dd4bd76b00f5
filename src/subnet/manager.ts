import type { NetworkConfig } from '../config.js';
import type { Lease, LeaseAttrs, LeaseSubnet, OwnLease, StoredLease } from '../lease/lease.js';
import type { StoreHealth } from './health.js';

/**
 * What a watch delivers. A snapshot replaces everything known before it; puts and deletes amend it. The own
 * lease is delivered like any other: who owns what is for the consumer to tell apart.
 */
export type LeaseEvent =
  | { readonly type: 'snapshot'; readonly leases: readonly StoredLease[] }
  | { readonly type: 'put'; readonly lease: StoredLease }
  | { readonly type: 'delete'; readonly subnet: LeaseSubnet };

/** An entry that has run out and that nobody has taken over. */
export interface ExpiredLease extends Lease {
  /** When it ran out, in milliseconds since the epoch by the store's clock. */
  readonly since: number;
}

/** What an operator has written in the store in place of --public-ip and --public-ipv6; null for nothing. */
export interface PublicAddresses {
  readonly v4: string | null;
  readonly v6: string | null;
}

/** The store as the daemon sees it. Every engine (etcd, directory, Kubernetes) stands behind this. */
export interface SubnetManager {
  /** For the start-up log line, e.g. `Etcd Local Manager with Previous Subnet: 10.5.1.0/24`. */
  readonly description: string;

  /**
   * The network config, parsed and validated once.
   * @throws ConfigError when it is missing or wrong (the caller retries), StoreUnavailableError.
   */
  getNetworkConfig(signal: AbortSignal): Promise<NetworkConfig>;

  /** @throws StoreUnavailableError. */
  publicAddresses(signal: AbortSignal): Promise<PublicAddresses>;

  /**
   * A subnet for the host that `attrs` names (lease/identity.ts): its former one if it still can be had, else a free one.
   * @throws LeaseError when there is none.
   */
  acquireLease(attrs: LeaseAttrs, signal: AbortSignal): Promise<OwnLease>;

  /**
   * The same lease with a fresh expiration.
   * @param attrs what to announce from now on in place of the lease's own, when this host has moved
   * @throws LeaseError when another host holds the subnet now, StoreUnavailableError.
   */
  renewLease(lease: OwnLease, signal: AbortSignal, attrs?: LeaseAttrs): Promise<OwnLease>;

  /**
   * Renews exactly the version of the entry that `lease` names, to tell its writer of this host, and tries that once;
   * null when somebody else has changed it meanwhile.
   * @throws StoreUnavailableError.
   */
  touchLease(lease: OwnLease, signal: AbortSignal): Promise<OwnLease | null>;

  /**
   * Batches of events, a snapshot first, until `signal` fires. Recovers by itself from whatever the store does
   * and logs it; it ends only with the signal.
   */
  watchLeases(signal: AbortSignal): AsyncIterable<readonly LeaseEvent[]>;

  /**
   * Does what a store needs beside renewals while the lease is in use and packets flow, until `signal` fires.
   * @throws LeaseError when the lease cannot be used any more.
   */
  maintain(signal: AbortSignal): Promise<void>;

  /** How the store is doing right now, for health checks: each look at it gives the present state. */
  readonly health: StoreHealth;

  close(): void;
}
