import { posix } from 'node:path';
import { ConfigError } from '../../errors.js';
import { formatLeaseValue } from '../../lease/lease-value.js';
import type { LeaseAttrs, LeaseSubnet, OwnLease, StoredLease } from '../../lease/lease.js';
import { formatSubnetKey } from '../../lease/subnet-key.js';
import { StoreMonitor } from '../health.js';
import type { StoreHealth } from '../health.js';
import type { ExpiredLease, LeaseEvent } from '../manager.js';
import type { LeaseRegistry } from '../registry.js';
import { EtcdClient } from './client.js';
import type { EtcdClientOptions } from './client.js';
import { decodeEntry } from '../entry.js';
import { LeaseIds, NO_LEASE } from './lease-id.js';
import { EtcdLeases } from './leases.js';
import type { EtcdTimings } from './member.js';
import { rpc } from './proto.js';
import type { Compare, KeyValue, TxnResponse } from './proto.js';
import { LeaseWatch, prefixRange } from './watch.js';

export interface EtcdRegistryOptions extends EtcdClientOptions {
  /** The keys are `<prefix>/config` and `<prefix>/subnets/<key>`. */
  readonly prefix: string;
}

/** Subnet leases in etcd, under the keys and values of every flanneld. */
export class EtcdRegistry implements LeaseRegistry {
  private readonly client: EtcdClient;
  private readonly leases: EtcdLeases;
  private readonly monitor = new StoreMonitor('etcd');
  /** The etcd leases that the entries written here lived by last, by subnet key. */
  private readonly written = new Map<string, string>();
  private readonly configKey: Buffer;
  private readonly subnetsPrefix: string;

  /** @throws UsageError for an endpoint or a TLS file that cannot be used. */
  constructor(options: EtcdRegistryOptions, timings?: EtcdTimings, ids = new LeaseIds()) {
    this.client = new EtcdClient(options, timings);
    this.leases = new EtcdLeases(this.client, ids);
    this.configKey = Buffer.from(posix.join(options.prefix, 'config'));
    this.subnetsPrefix = `${posix.join(options.prefix, 'subnets')}/`;
  }

  async readConfig(signal: AbortSignal): Promise<string> {
    const config = await this.readKey(this.configKey, signal);
    if (config === undefined) {
      throw new ConfigError(
        'flannel config not found in etcd store. Did you create your config using etcdv3 API?',
      );
    }
    return config.value.toString();
  }

  async list(signal: AbortSignal): Promise<readonly StoredLease[]> {
    const { key, rangeEnd } = prefixRange(this.subnetsPrefix);
    const { kvs } = await this.client.unary(rpc.range, { key, range_end: rangeEnd }, signal);
    return kvs.map((kv) => this.decode(kv)).filter((lease) => lease !== null);
  }

  /** None: etcd forgets an entry with its lease. */
  expired(): Promise<readonly ExpiredLease[]> {
    return Promise.resolve([]);
  }

  async create(
    subnet: LeaseSubnet,
    attrs: LeaseAttrs,
    ttlSeconds: number,
    signal: AbortSignal,
  ): Promise<OwnLease | null> {
    const key = this.keyOf(subnet);
    return this.write(subnet, attrs, ttlSeconds, [{ target: 'VERSION', key, version: '0' }], signal);
  }

  async update(
    subnet: LeaseSubnet,
    attrs: LeaseAttrs,
    revision: string,
    ttlSeconds: number | null,
    signal: AbortSignal,
    tells = false,
  ): Promise<OwnLease | null> {
    return this.write(subnet, attrs, ttlSeconds, isAt(this.keyOf(subnet), revision), signal, tells);
  }

  async remove(subnet: LeaseSubnet, revision: string, signal: AbortSignal): Promise<boolean> {
    const key = this.keyOf(subnet);
    const { succeeded, responses } = await this.client.unary(
      rpc.txn,
      {
        compare: isAt(key, revision),
        success: [{ request_delete_range: { key, prev_kv: true } }],
        failure: [],
      },
      signal,
    );
    if (succeeded) {
      await this.leases.release(responses[0]?.response_delete_range?.prev_kvs[0]?.lease ?? NO_LEASE);
    }
    return succeeded;
  }

  watch(signal: AbortSignal): AsyncIterable<readonly LeaseEvent[]> {
    const decode = (kv: KeyValue) => this.decode(kv);
    return new LeaseWatch(this.client, this.subnetsPrefix, decode, this.monitor).run(signal);
  }

  get health(): StoreHealth {
    return this.monitor.health;
  }

  close(): void {
    this.leases.close();
    this.client.close();
  }

  /** Puts the entry under a new etcd lease (none for `ttlSeconds` null) if `conditions` hold, else gives null. */
  private async write(
    subnet: LeaseSubnet,
    attrs: LeaseAttrs,
    ttlSeconds: number | null,
    conditions: readonly Compare[],
    signal: AbortSignal,
    tells = false,
  ): Promise<OwnLease | null> {
    const key = this.keyOf(subnet);
    const value = Buffer.from(formatLeaseValue(attrs));
    const { lease, expiration } = await this.leases.grant(ttlSeconds, signal, tells);
    const put = { key, value, lease, prev_kv: true };
    let answer: TxnResponse;
    try {
      answer = await this.client.unary(
        rpc.txn,
        {
          compare: conditions,
          success: [{ request_put: put }],
          failure: [{ request_range: { key } }],
        },
        signal,
      );
    } catch (error) {
      await this.leases.abandon(lease, error);
      throw error;
    }
    const result = answer.responses[0];
    if (answer.succeeded) {
      await this.releaseFormer(subnet, lease, result?.response_put?.prev_kv?.lease ?? NO_LEASE);
      return { subnet, attrs, expiration, revision: revisionOf(answer.header?.revision ?? '', value) };
    }
    const holder = result?.response_range?.kvs[0];
    if (lease !== NO_LEASE && holder?.lease === lease && holder.value.equals(value)) {
      // The write got through at the first attempt, whose answer was lost, and this is the second one.
      return { subnet, attrs, expiration, revision: revisionOf(holder.mod_revision, value) };
    }
    await this.leases.revoke(lease);
    return null;
  }

  /** An entry that is deleted by hand leaves its etcd lease behind: then that is `replaced` by nothing, but ours. */
  private async releaseFormer(subnet: LeaseSubnet, lease: string, replaced: string): Promise<void> {
    const name = formatSubnetKey(subnet);
    const former = this.written.get(name) ?? NO_LEASE;
    this.written.set(name, lease);
    await this.leases.release(replaced);
    if (former !== replaced) await this.leases.release(former);
  }

  private decode(kv: KeyValue): StoredLease | null {
    const lease = decodeEntry(kv.key.toString().slice(this.subnetsPrefix.length), kv.value.toString());
    if (lease === null) return null;
    return {
      subnet: lease.subnet,
      attrs: lease.attrs,
      revision: revisionOf(kv.mod_revision, kv.value),
      reservation: kv.lease === NO_LEASE,
      writer: this.leases.writerOf(kv.lease),
    };
  }

  private async readKey(key: Buffer, signal: AbortSignal): Promise<KeyValue | undefined> {
    try {
      const { kvs } = await this.client.unary(rpc.range, { key }, signal);
      this.monitor.answered();
      return kvs[0];
    } catch (error) {
      if (!signal.aborted) this.monitor.failed(error);
      throw error;
    }
  }

  private keyOf(subnet: LeaseSubnet): Buffer {
    return Buffer.from(this.subnetsPrefix + formatSubnetKey(subnet));
  }
}

/**
 * A version of an entry: its store revision and its value. A store that was wiped and filled again may give the same
 * revision to the entry of another host; then the value tells them apart.
 */
export function revisionOf(modRevision: string, value: Buffer): string {
  return `${modRevision} ${value.toString('latin1')}`;
}

/** Holds for exactly the version of `key` that `revision` names. */
function isAt(key: Buffer, revision: string): Compare[] {
  const end = revision.indexOf(' ');
  return [
    { target: 'MOD', key, mod_revision: revision.slice(0, end) },
    { target: 'VALUE', key, value: Buffer.from(revision.slice(end + 1), 'latin1') },
  ];
}
