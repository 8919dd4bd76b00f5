import { setMaxListeners } from 'node:events';
import { status } from '@grpc/grpc-js';
import { messageOf } from '../../errors.js';
import type { Writer } from '../../lease/lease.js';
import { log } from '../../log.js';
import { Backoff } from '../../retry.js';
import type { EtcdClient } from './client.js';
import { EtcdError } from './error.js';
import { LeaseIds, NO_LEASE } from './lease-id.js';
import { rpc } from './proto.js';

/** A lease that was asked for. */
export interface Granted {
  readonly lease: string;
  /** Milliseconds since the epoch; null for no lease at all. */
  readonly expiration: number | null;
}

/**
 * The etcd leases that our entries live by, and that none is left behind: what cannot be revoked at once, because
 * the store is away or it is not known whether an entry lives by it, is looked at again until that is settled.
 */
export class EtcdLeases {
  private readonly leftovers = new Set<string>();
  private readonly closed = new AbortController();
  private sweeping = false;

  constructor(
    private readonly client: EtcdClient,
    private readonly ids: LeaseIds,
  ) {
    setMaxListeners(0, this.closed.signal);
  }

  writerOf(lease: string): Writer {
    return this.ids.writerOf(lease);
  }

  /** A lease for `ttlSeconds`; none for null. @param tells see LeaseIds.next */
  async grant(ttlSeconds: number | null, signal: AbortSignal, tells: boolean): Promise<Granted> {
    if (ttlSeconds === null) return { lease: NO_LEASE, expiration: null };
    const before = Date.now();
    const lease = this.ids.next(tells);
    let seconds = ttlSeconds;
    try {
      const granted = await this.client.unary(
        rpc.leaseGrant,
        { TTL: ttlSeconds.toString(), ID: lease },
        signal,
      );
      seconds = Number(granted.TTL);
    } catch (error) {
      // The client asks another member when one does not answer: the first may have granted it all the same.
      if (!isStatus(error, status.FAILED_PRECONDITION, 'already exists')) {
        if (mayHaveApplied(error)) this.leave(lease);
        throw error;
      }
    }
    return { lease, expiration: before + seconds * 1000 };
  }

  /** Revokes `lease`, which no entry lives by. */
  async revoke(lease: string): Promise<void> {
    if (lease === NO_LEASE) return;
    try {
      await this.client.unary(rpc.leaseRevoke, { ID: lease }, this.closed.signal);
    } catch (error) {
      if (!isStatus(error, status.NOT_FOUND)) this.leave(lease, error);
    }
  }

  /** Revokes `lease` unless entries live by it: somebody may have put keys of his own under it. */
  async release(lease: string): Promise<void> {
    if (lease === NO_LEASE) return;
    if (!(await this.settle(lease))) this.leave(lease);
  }

  /** After a write whose outcome is unknown: `lease` goes if it turns out that the entry does not live by it. */
  async abandon(lease: string, error: unknown): Promise<void> {
    // Were the write applied after all, taking back its lease now would delete our own entry.
    if (!mayHaveApplied(error)) await this.revoke(lease);
    else if (lease !== NO_LEASE) this.leave(lease);
  }

  close(): void {
    this.closed.abort();
  }

  private leave(lease: string, error?: unknown): void {
    if (error !== undefined) log.v(2).info(`etcd lease ${lease} is revoked later: ${messageOf(error)}`);
    this.leftovers.add(lease);
    if (!this.sweeping) void this.sweep();
  }

  private async sweep(): Promise<void> {
    this.sweeping = true;
    // By the first look, a write that etcd was still busy with has been done or given up.
    const backoff = new Backoff(2 * this.client.timings.requestMs, 60_000);
    while (this.leftovers.size > 0 && (await backoff.wait(this.closed.signal))) {
      for (const lease of [...this.leftovers]) {
        if (await this.settle(lease)) this.leftovers.delete(lease);
      }
    }
    this.sweeping = false;
  }

  /** True once `lease` is gone or has an entry that lives by it; false when etcd did not say. */
  private async settle(lease: string): Promise<boolean> {
    try {
      const { signal } = this.closed;
      const { TTL, keys } = await this.client.unary(rpc.leaseTimeToLive, { ID: lease, keys: true }, signal);
      if (keys.length === 0 && Number(TTL) > 0) {
        await this.client.unary(rpc.leaseRevoke, { ID: lease }, signal);
      }
      return true;
    } catch (error) {
      if (isStatus(error, status.NOT_FOUND)) return true;
      log.v(2).info(`etcd lease ${lease} is looked at later: ${messageOf(error)}`);
      return false;
    }
  }
}

function isStatus(error: unknown, code: status, text = ''): boolean {
  return error instanceof EtcdError && error.status === code && error.message.includes(text);
}

/** Anything but a refusal leaves it open whether the store has done it. */
function mayHaveApplied(error: unknown): boolean {
  return !(error instanceof EtcdError) || error.mayHaveApplied;
}
