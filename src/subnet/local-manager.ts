import { once } from 'node:events';
import { parseNetworkConfig } from '../config.js';
import type { NetworkConfig } from '../config.js';
import { LeaseError } from '../errors.js';
import type { Cidr4 } from '../ip.js';
import { chooseSubnet, isCompatible } from '../lease/allocate.js';
import { formatPublicIp, sameHost } from '../lease/identity.js';
import { overlap, v4SubnetsOf } from '../lease/lease.js';
import type { LeaseAttrs, LeaseSubnet, OwnLease, StoredLease } from '../lease/lease.js';
import { formatSubnetKey } from '../lease/subnet-key.js';
import { log } from '../log.js';
import { sleep } from '../retry.js';
import type { StoreHealth } from './health.js';
import type { ExpiredLease, LeaseEvent, PublicAddresses, SubnetManager } from './manager.js';
import type { LeaseRegistry } from './registry.js';

const LEASE_SECONDS = 86_400;
const MOST_TRIES = 10;
/** Hosts that get in each other's way try again after a random part of this. */
const JITTER_MS = 50;

/**
 * Subnet leases where the hosts share them out among themselves: each takes a free one by an exclusive create
 * and renews it by a compare-and-swap, over any registry that can do both.
 */
export class LocalManager implements SubnetManager {
  readonly description: string;

  /**
   * @param storeName for the description, e.g. `Etcd`
   * @param previousSubnet what this host had before it restarted, in network form
   * @param random gives numbers in [0, 1)
   */
  constructor(
    private readonly registry: LeaseRegistry,
    storeName: string,
    private readonly previousSubnet: Cidr4 | null,
    private readonly random: () => number = Math.random,
  ) {
    this.description = `${storeName} Local Manager with Previous Subnet: ${previousSubnet?.toString() ?? 'None'}`;
  }

  async getNetworkConfig(signal: AbortSignal): Promise<NetworkConfig> {
    return parseNetworkConfig(await this.registry.readConfig(signal));
  }

  publicAddresses(): Promise<PublicAddresses> {
    return Promise.resolve({ v4: null, v6: null });
  }

  async acquireLease(attrs: LeaseAttrs, signal: AbortSignal): Promise<OwnLease> {
    const config = await this.getNetworkConfig(signal);
    // Subnets that could not be had although the list shows them free: an unreadable entry hides there.
    const refused: Cidr4[] = [];
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const leases = await this.registry.list(signal);
      const own = leases.filter((lease) => sameHost(lease.attrs, attrs));
      const compatible = own.filter((lease) => isCompatible(lease.subnet, config));
      // Several: this host has taken over an address, and the lease of the host that had it before is still there.
      const usable = compatible.find((lease) => this.isPrevious(lease.subnet)) ?? compatible[0];
      if (usable !== undefined) {
        const lease = await this.reuse(usable, attrs, signal);
        if (lease !== null) return lease;
        await this.stepAside(tries, signal);
        continue;
      }
      const kept = await this.removeUnusable(own, signal);
      const others = leases.filter((lease) => !own.includes(lease) || kept.includes(lease));
      const v4 = await this.choose(config, attrs, others, refused, signal);
      const lease = await this.registry.create({ v4, v6: null }, attrs, LEASE_SECONDS, signal);
      if (lease !== null) return lease;
      log.info(`another host was faster to take ${v4.toString()}; trying again`);
      refused.push(v4);
    }
    throw new LeaseError(
      `max retries reached trying to acquire a subnet: other hosts, or entries that cannot be read, were in the way ` +
        `of each of ${MOST_TRIES} tries; start flanneld again, and delete broken entries that the log names`,
    );
  }

  async renewLease(lease: OwnLease, signal: AbortSignal, attrs = lease.attrs): Promise<OwnLease> {
    let { revision } = lease;
    let ttlSeconds = lease.expiration === null ? null : LEASE_SECONDS;
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const renewed = await this.registry.update(lease.subnet, attrs, revision, ttlSeconds, signal);
      if (renewed !== null) return renewed;
      const leases = await this.registry.list(signal);
      const current = holderOf(lease, attrs, leases);
      if (current !== undefined) {
        log.info(`the entry of ${formatSubnetKey(lease.subnet)} was rewritten meanwhile; renewing it again`);
        revision = current.revision;
        ttlSeconds = current.reservation ? null : LEASE_SECONDS;
        if (tries > 0) await this.stepAside(tries, signal);
        continue;
      }
      log.warning(`the entry of ${formatSubnetKey(lease.subnet)} has gone; creating it again`);
      const recreated = await this.registry.create(lease.subnet, attrs, LEASE_SECONDS, signal);
      if (recreated !== null) return recreated;
    }
    throw new LeaseError(
      `the lease of ${formatSubnetKey(lease.subnet)} could not be renewed in ${MOST_TRIES} tries: its entry ` +
        'keeps changing or cannot be read; look at it in the store and delete it if it is broken',
    );
  }

  touchLease(lease: OwnLease, signal: AbortSignal): Promise<OwnLease | null> {
    const ttlSeconds = lease.expiration === null ? null : LEASE_SECONDS;
    return this.registry.update(lease.subnet, lease.attrs, lease.revision, ttlSeconds, signal, true);
  }

  async maintain(signal: AbortSignal): Promise<void> {
    if (!signal.aborted) await once(signal, 'abort');
  }

  get health(): StoreHealth {
    return this.registry.health;
  }

  watchLeases(signal: AbortSignal): AsyncIterable<readonly LeaseEvent[]> {
    return this.registry.watch(signal);
  }

  close(): void {
    this.registry.close();
  }

  /** Waits for a random while, longer the more often one was in each other's way. */
  private async stepAside(tries: number, signal: AbortSignal): Promise<void> {
    if (!(await sleep(this.random() * (tries + 1) * JITTER_MS, signal))) signal.throwIfAborted();
  }

  private async reuse(found: StoredLease, attrs: LeaseAttrs, signal: AbortSignal): Promise<OwnLease | null> {
    const { subnet, reservation, revision } = found;
    const ttlSeconds = reservation ? null : LEASE_SECONDS;
    const lease = await this.registry.update(subnet, attrs, revision, ttlSeconds, signal);
    if (lease !== null) {
      log.info(
        `Found lease (ip: ${subnet.v4?.toString() ?? '0.0.0.0/0'} ipv6: ${subnet.v6?.toString() ?? '::/0'}) for current IP ` +
          `(${formatPublicIp(attrs)}), reusing`,
      );
    }
    return lease;
  }

  /**
   * Deletes our leases that the config does not allow (any more). Reservations stay, because an operator made
   * them and not we. Returns what still stands in the way.
   */
  private async removeUnusable(own: readonly StoredLease[], signal: AbortSignal): Promise<StoredLease[]> {
    const kept: StoredLease[] = [];
    for (const lease of own) {
      const text = `${lease.reservation ? 'reservation' : 'lease'} ${formatSubnetKey(lease.subnet)}`;
      if (lease.reservation) {
        log.warning(`our ${text} does not fit the network config and is not used; delete or mend it`);
        kept.push(lease);
      } else {
        log.warning(`our ${text} does not fit the network config; deleting it`);
        if (!(await this.registry.remove(lease.subnet, lease.revision, signal))) kept.push(lease);
      }
    }
    return kept;
  }

  private isPrevious({ v4 }: LeaseSubnet): boolean {
    return v4 !== null && this.previousSubnet?.equals(v4) === true;
  }

  /**
   * A subnet that nobody holds: the one this host had before, by its own memory or the store's, else a free one.
   * @throws LeaseError when there is none.
   */
  private async choose(
    config: NetworkConfig,
    attrs: LeaseAttrs,
    others: readonly StoredLease[],
    refused: readonly Cidr4[],
    signal: AbortSignal,
  ): Promise<Cidr4> {
    const taken = [...v4SubnetsOf(others.map(({ subnet }) => subnet)), ...refused];
    const previous = this.usablePrevious(config, others, taken);
    if (previous !== null) return previous;
    const expired = await this.registry.expired(signal);
    const former = formerSubnet(config, attrs, expired, taken);
    if (former === null) return chooseSubnet(config, taken, this.random, expired);
    log.info(`taking ${former.toString()} again, which this host had until its lease ran out`);
    return former;
  }

  private usablePrevious(
    config: NetworkConfig,
    others: readonly StoredLease[],
    taken: readonly Cidr4[],
  ): Cidr4 | null {
    const previous = this.previousSubnet;
    if (previous === null) return null;
    const holder = others.find(({ subnet }) => subnet.v4?.overlaps(previous));
    if (holder !== undefined) {
      log.warning(
        `the previous subnet ${previous.toString()} now belongs to the host with public IP ` +
          `${formatPublicIp(holder.attrs)}; taking another`,
      );
      return null;
    }
    if (taken.some((cidr) => cidr.overlaps(previous))) return null;
    if (!isCompatible({ v4: previous, v6: null }, config)) {
      log.error(`the previous subnet ${previous.toString()} does not fit the network config; taking another`);
      return null;
    }
    log.info(`taking the previous subnet ${previous.toString()} again`);
    return previous;
  }
}

/** The subnet that the store last knew as ours, if it can be had. */
function formerSubnet(
  config: NetworkConfig,
  attrs: LeaseAttrs,
  expired: readonly ExpiredLease[],
  taken: readonly Cidr4[],
): Cidr4 | null {
  const ours = expired
    .filter((lease) => sameHost(lease.attrs, attrs) && isCompatible(lease.subnet, config))
    .sort((a, b) => b.since - a.since);
  return (
    v4SubnetsOf(ours.map(({ subnet }) => subnet)).find((v4) => !taken.some((cidr) => cidr.overlaps(v4))) ??
    null
  );
}

/**
 * Our entry among `leases`, with the attributes it had or those it is to have; undefined when it has gone and its
 * subnet is free.
 * @throws LeaseError when another host holds the subnet or a part of it.
 */
function holderOf(own: OwnLease, next: LeaseAttrs, leases: readonly StoredLease[]): StoredLease | undefined {
  const key = formatSubnetKey(own.subnet);
  const isOurs = ({ attrs }: StoredLease) => sameHost(attrs, own.attrs) || sameHost(attrs, next);
  const other = leases.find((lease) => !isOurs(lease) && overlap(lease.subnet, own.subnet));
  if (other !== undefined) {
    throw new LeaseError(
      `subnet ${key} now belongs to the host with public IP ${formatPublicIp(other.attrs)}` +
        `${formatSubnetKey(other.subnet) === key ? '' : ` (lease ${formatSubnetKey(other.subnet)})`}; ` +
        'start this daemon again to get another subnet, which its containers have to be restarted for',
    );
  }
  return leases.find((lease) => formatSubnetKey(lease.subnet) === key);
}
