import { parseNetworkConfig } from '../config.js';
import type { NetworkConfig } from '../config.js';
import { LeaseError } from '../errors.js';
import { formatIp4 } from '../ip.js';
import type { Cidr4 } from '../ip.js';
import { chooseSubnet, isCompatible } from '../lease/allocate.js';
import { sameHost } from '../lease/identity.js';
import type { LeaseAttrs, OwnLease } from '../lease/lease.js';
import { formatSubnetKey } from '../lease/subnet-key.js';
import { log } from '../log.js';
import type { LeaseEvent, SubnetManager } from './manager.js';
import type { LeaseRegistry, StoredLease } from './registry.js';

const LEASE_SECONDS = 86_400;
const MOST_TRIES = 10;

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

  async acquireLease(attrs: LeaseAttrs, signal: AbortSignal): Promise<OwnLease> {
    const config = await this.getNetworkConfig(signal);
    // Subnets that could not be had although the list shows them free: an unreadable entry hides there.
    const refused: Cidr4[] = [];
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const leases = await this.registry.list(signal);
      const own = leases.filter((lease) => sameHost(lease.attrs, attrs));
      const compatible = own.filter((lease) => isCompatible(lease.subnet, config));
      // Several: this host has taken over an address, and the lease of the host that had it before is still there.
      const usable = compatible.find((lease) => this.isPrevious(lease.subnet.v4)) ?? compatible[0];
      if (usable !== undefined) {
        const lease = await this.reuse(usable, attrs, signal);
        if (lease !== null) return lease;
        continue;
      }
      const kept = await this.removeUnusable(own, signal);
      const others = leases.filter((lease) => !own.includes(lease) || kept.includes(lease));
      const taken = [...others.map((lease) => lease.subnet.v4), ...refused];
      const v4 = this.usablePrevious(config, taken) ?? chooseSubnet(config, taken, this.random);
      const lease = await this.registry.create({ v4, v6: null }, attrs, LEASE_SECONDS, signal);
      if (lease !== null) return lease;
      log.info(`another host was faster to take ${v4.toString()}; trying again`);
      refused.push(v4);
    }
    throw new LeaseError('max retries reached trying to acquire a subnet');
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

  watchLeases(signal: AbortSignal): AsyncIterable<readonly LeaseEvent[]> {
    return this.registry.watch(signal);
  }

  close(): void {
    this.registry.close();
  }

  private async reuse(found: StoredLease, attrs: LeaseAttrs, signal: AbortSignal): Promise<OwnLease | null> {
    const { subnet, reservation, revision } = found;
    const ttlSeconds = reservation ? null : LEASE_SECONDS;
    const lease = await this.registry.update(subnet, attrs, revision, ttlSeconds, signal);
    if (lease !== null) {
      log.info(
        `Found lease (ip: ${subnet.v4.toString()} ipv6: ${subnet.v6 ?? '::/0'}) for current IP ` +
          `(${formatIp4(attrs.publicIp)}), reusing`,
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

  private isPrevious(v4: Cidr4): boolean {
    return this.previousSubnet?.equals(v4) ?? false;
  }

  private usablePrevious(config: NetworkConfig, taken: readonly Cidr4[]): Cidr4 | null {
    const previous = this.previousSubnet;
    if (previous === null || taken.some((cidr) => cidr.overlaps(previous))) return null;
    if (!isCompatible({ v4: previous, v6: null }, config)) {
      log.error(`the previous subnet ${previous.toString()} does not fit the network config; taking another`);
      return null;
    }
    log.info(`taking the previous subnet ${previous.toString()} again`);
    return previous;
  }
}

/**
 * Our entry among `leases`, with the attributes it had or those it is to have; undefined when it has gone and its
 * subnet is free.
 * @throws LeaseError when another host holds the subnet or a part of it.
 */
function holderOf(own: OwnLease, next: LeaseAttrs, leases: readonly StoredLease[]): StoredLease | undefined {
  const key = formatSubnetKey(own.subnet);
  const isOurs = ({ attrs }: StoredLease) => sameHost(attrs, own.attrs) || sameHost(attrs, next);
  const other = leases.find((lease) => !isOurs(lease) && lease.subnet.v4.overlaps(own.subnet.v4));
  if (other !== undefined) {
    throw new LeaseError(
      `subnet ${key} now belongs to the host with public IP ${formatIp4(other.attrs.publicIp)}` +
        `${formatSubnetKey(other.subnet) === key ? '' : ` (lease ${formatSubnetKey(other.subnet)})`}; ` +
        'restart this daemon to get another subnet',
    );
  }
  return leases.find((lease) => formatSubnetKey(lease.subnet) === key);
}
