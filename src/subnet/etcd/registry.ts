import { posix } from 'node:path';
import { ConfigError, messageOf } from '../../errors.js';
import { formatLeaseValue } from '../../lease/lease-value.js';
import type { LeaseAttrs, LeaseSubnet, OwnLease } from '../../lease/lease.js';
import { formatSubnetKey } from '../../lease/subnet-key.js';
import { log } from '../../log.js';
import type { LeaseEvent } from '../manager.js';
import type { LeaseRegistry, StoredLease } from '../registry.js';
import { EtcdClient } from './client.js';
import type { EtcdClientOptions } from './client.js';
import { decodeEntry } from '../entry.js';
import { EtcdError } from './error.js';
import type { EtcdTimings } from './member.js';
import { rpc } from './proto.js';
import type { KeyValue, TxnRequest, TxnResponse } from './proto.js';
import { LeaseWatch, prefixRange } from './watch.js';

/** What etcd writes for "no lease". */
const NO_LEASE = '0';

export interface EtcdRegistryOptions extends EtcdClientOptions {
  /** The keys are `<prefix>/config` and `<prefix>/subnets/<key>`. */
  readonly prefix: string;
}

/** Subnet leases in etcd, under the keys and values of every flanneld. */
export class EtcdRegistry implements LeaseRegistry {
  private readonly client: EtcdClient;
  private readonly configKey: Buffer;
  private readonly subnetsPrefix: string;

  /** @throws UsageError for an endpoint or a TLS file that cannot be used. */
  constructor(options: EtcdRegistryOptions, timings?: EtcdTimings) {
    this.client = new EtcdClient(options, timings);
    this.configKey = Buffer.from(posix.join(options.prefix, 'config'));
    this.subnetsPrefix = `${posix.join(options.prefix, 'subnets')}/`;
  }

  async readConfig(signal: AbortSignal): Promise<string> {
    const { kvs } = await this.client.unary(rpc.range, { key: this.configKey }, signal);
    const config = kvs[0];
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
    return kvs.flatMap((kv) => {
      const lease = decodeEntry(kv.key.toString().slice(this.subnetsPrefix.length), kv.value.toString());
      return lease === null
        ? []
        : [{ ...lease, revision: kv.mod_revision, reservation: kv.lease === NO_LEASE }];
    });
  }

  async create(
    subnet: LeaseSubnet,
    attrs: LeaseAttrs,
    ttlSeconds: number,
    signal: AbortSignal,
  ): Promise<OwnLease | null> {
    const key = this.keyOf(subnet);
    return this.write(subnet, attrs, ttlSeconds, { target: 'VERSION', key, version: '0' }, signal);
  }

  async update(
    subnet: LeaseSubnet,
    attrs: LeaseAttrs,
    revision: string,
    ttlSeconds: number | null,
    signal: AbortSignal,
  ): Promise<OwnLease | null> {
    const key = this.keyOf(subnet);
    return this.write(subnet, attrs, ttlSeconds, { target: 'MOD', key, mod_revision: revision }, signal);
  }

  async remove(subnet: LeaseSubnet, revision: string, signal: AbortSignal): Promise<boolean> {
    const key = this.keyOf(subnet);
    const { succeeded, responses } = await this.client.unary(
      rpc.txn,
      {
        compare: [{ target: 'MOD', key, mod_revision: revision }],
        success: [{ request_delete_range: { key, prev_kv: true } }],
        failure: [],
      },
      signal,
    );
    if (succeeded) await this.releaseLease(responses[0]?.response_delete_range?.prev_kvs[0]);
    return succeeded;
  }

  watch(signal: AbortSignal): AsyncIterable<readonly LeaseEvent[]> {
    return new LeaseWatch(this.client, this.subnetsPrefix).run(signal);
  }

  close(): void {
    this.client.close();
  }

  /** Puts the entry under a new etcd lease (none for `ttlSeconds` null) if `condition` holds, else gives null. */
  private async write(
    subnet: LeaseSubnet,
    attrs: LeaseAttrs,
    ttlSeconds: number | null,
    condition: TxnRequest['compare'][number],
    signal: AbortSignal,
  ): Promise<OwnLease | null> {
    const value = Buffer.from(formatLeaseValue(attrs));
    const { lease, expiration } = await this.grant(ttlSeconds, signal);
    const { key } = condition;
    let answer: TxnResponse;
    try {
      const put = { key, value, lease, prev_kv: true };
      answer = await this.client.unary(
        rpc.txn,
        {
          compare: [condition],
          success: [{ request_put: put }],
          failure: [{ request_range: { key } }],
        },
        signal,
      );
    } catch (error) {
      // Were the write applied after all, taking back its lease would delete our own entry.
      if (error instanceof EtcdError && !error.mayHaveApplied) await this.revoke(lease);
      throw error;
    }
    const result = answer.responses[0];
    if (answer.succeeded) {
      await this.releaseLease(result?.response_put?.prev_kv ?? undefined);
      return { subnet, attrs, expiration, revision: answer.header?.revision ?? '' };
    }
    const holder = result?.response_range?.kvs[0];
    if (holder?.lease === lease && holder.value.equals(value)) {
      // The write got through at the first attempt, whose answer was lost, and this is the second one.
      return { subnet, attrs, expiration, revision: holder.mod_revision };
    }
    await this.revoke(lease);
    return null;
  }

  private async grant(
    ttlSeconds: number | null,
    signal: AbortSignal,
  ): Promise<{ lease: string; expiration: number | null }> {
    if (ttlSeconds === null) return { lease: NO_LEASE, expiration: null };
    const before = Date.now();
    const granted = await this.client.unary(rpc.leaseGrant, { TTL: ttlSeconds.toString() }, signal);
    return { lease: granted.ID, expiration: before + Number(granted.TTL) * 1000 };
  }

  /** Revokes the etcd lease an entry used to live by. Somebody may have put other keys under it: then it stays. */
  private async releaseLease(former: KeyValue | undefined): Promise<void> {
    if (former === undefined || former.lease === NO_LEASE) return;
    try {
      const request = { ID: former.lease, keys: true };
      const { keys } = await this.client.unary(rpc.leaseTimeToLive, request, new AbortController().signal);
      if (keys.length === 0) await this.revoke(former.lease);
    } catch (error) {
      log.v(1).info(`a former etcd lease is left to run out: ${messageOf(error)}`);
    }
  }

  /** Best effort: what is not revoked runs out within its TTL, and no key depends on it. */
  private async revoke(lease: string): Promise<void> {
    if (lease === NO_LEASE) return;
    try {
      await this.client.unary(rpc.leaseRevoke, { ID: lease }, new AbortController().signal);
    } catch (error) {
      log.v(1).info(`an unused etcd lease is left to run out: ${messageOf(error)}`);
    }
  }

  private keyOf(subnet: LeaseSubnet): Buffer {
    return Buffer.from(this.subnetsPrefix + formatSubnetKey(subnet));
  }
}
