import { status } from '@grpc/grpc-js';
import { log } from '../../log.js';
import { Backoff } from '../../retry.js';
import type { StoredLease } from '../../lease/lease.js';
import type { StoreMonitor } from '../health.js';
import type { LeaseEvent } from '../manager.js';
import type { EtcdClient } from './client.js';
import { KnownLeases } from '../entry.js';
import { EtcdError, saysLogIn } from './error.js';
import { rpc } from './proto.js';
import type { KeyValue, ResponseHeader, WatchResponse } from './proto.js';
import { WatchStream } from './watch-stream.js';

/** The id in answers to progress requests. */
const NO_WATCH = '-1';

/** A watch is answered at once, by whatever member is well. */
const MOST_UNTIL_OPEN_MS = 3_000;

/** All keys that begin with `prefix`, as etcd wants a range: from `key` up to and without `rangeEnd`. */
export function prefixRange(prefix: string): { readonly key: Buffer; readonly rangeEnd: Buffer } {
  const key = Buffer.from(prefix);
  const rangeEnd = Buffer.from(key);
  // No prefix ends with a byte of 255, so adding one never carries.
  rangeEnd.writeUInt8((rangeEnd.at(-1) ?? 0) + 1, rangeEnd.length - 1);
  return { key, rangeEnd };
}

/** How far the watch has come, and in which history of the store. */
class Position {
  private readonly clusterId: string;
  private raftTerm: bigint;
  /** The highest revision the store has shown, which may be ahead of our keys'. */
  private storeRevision: bigint;

  constructor(
    header: ResponseHeader,
    /** Everything up to and with this revision has been delivered. */
    public delivered = BigInt(header.revision),
  ) {
    this.clusterId = header.cluster_id;
    this.raftTerm = BigInt(header.raft_term);
    this.storeRevision = BigInt(header.revision);
  }

  /**
   * False when `header` cannot come from the same history: the store was wiped or restored, and a watch from
   * `delivered + 1` would wait for a future that never comes. A member that lags behind looks the same; then
   * the snapshot that follows is superfluous but right. A store wiped and refilled beyond all of these numbers
   * between two attempts to reach it goes unnoticed.
   */
  precedes(header: ResponseHeader): boolean {
    return (
      header.cluster_id === this.clusterId &&
      BigInt(header.raft_term) >= this.raftTerm &&
      BigInt(header.revision) >= this.storeRevision
    );
  }

  see(header: ResponseHeader): void {
    const revision = BigInt(header.revision);
    const term = BigInt(header.raft_term);
    if (revision > this.storeRevision) this.storeRevision = revision;
    if (term > this.raftTerm) this.raftTerm = term;
  }
}

/** The watch over all subnets of a network: a snapshot, then what changes, over every failure of the store. */
export class LeaseWatch {
  private readonly backoff = new Backoff(100, 5_000);
  private readonly known = new KnownLeases();
  /** Null: a snapshot is due. */
  private position: Position | null = null;

  /**
   * @param prefix of the subnet keys, with its slash at the end
   * @param decode an entry, or null after a warning
   */
  constructor(
    private readonly client: EtcdClient,
    private readonly prefix: string,
    private readonly decode: (kv: KeyValue) => StoredLease | null,
    private readonly monitor: StoreMonitor,
  ) {}

  /** See LeaseRegistry.watch. */
  async *run(signal: AbortSignal): AsyncGenerator<readonly LeaseEvent[]> {
    do {
      try {
        if (this.position === null) yield [await this.snapshot(signal)];
        yield* this.follow(signal);
      } catch (error) {
        if (signal.aborted) return;
        // There has been waiting enough, and what was wrong with this attempt (member, connection, token) is replaced.
        if (error instanceof EtcdError && error.status === status.DEADLINE_EXCEEDED) this.backoff.reset();
        if (error instanceof EtcdError && error.status === status.OUT_OF_RANGE) this.compacted();
        else this.monitor.lost(error);
      }
    } while (await this.backoff.wait(signal));
  }

  private async snapshot(signal: AbortSignal): Promise<LeaseEvent> {
    const { key, rangeEnd } = prefixRange(this.prefix);
    const { header, kvs } = await this.client.unary(rpc.range, { key, range_end: rangeEnd }, signal);
    if (header === null) throw new EtcdError(status.UNKNOWN, 'etcd answered a read without a header', false);
    this.position = new Position(header);
    this.monitor.answered();
    this.monitor.tableIs(header.revision);
    const leases = this.known.replace(kvs.map((kv) => [this.nameOf(kv.key), this.decode(kv)] as const));
    return { type: 'snapshot', leases };
  }

  /** Delivers events until the watch ends; throws what ended it, or returns when a snapshot is due. */
  private async *follow(signal: AbortSignal): AsyncGenerator<readonly LeaseEvent[]> {
    const position = this.position;
    if (position === null) return;
    const range = { ...prefixRange(this.prefix), startRevision: position.delivered + 1n };
    const stream = await WatchStream.open(this.client, range, signal);
    try {
      const first = await stream.next(Math.min(this.client.timings.requestMs, MOST_UNTIL_OPEN_MS));
      if (first?.header == null) throw stream.fail(status.DEADLINE_EXCEEDED, 'no answer to a watch request');
      if (!first.canceled && !position.precedes(first.header)) {
        log.warning('etcd has gone back in time (wiped or restored?); reading all leases anew');
        this.position = null;
        return;
      }
      const watchId = first.watch_id;
      const heartbeat = new Heartbeat(stream, this.client.timings);
      for (let response = first; ; response = await heartbeat.next()) {
        if (response.canceled) {
          this.canceled(stream, response);
          return;
        }
        this.monitor.answered();
        if (response !== first) this.backoff.reset();
        const events = this.eventsOf(response);
        if (events.length > 0) yield events;
        // Advanced after the consumer has taken the events. etcd before 3.4.25 may answer a progress request
        // (which bears no watch's id) ahead of events that are still under way, so that one moves nothing.
        const last = response.events.at(-1)?.kv?.mod_revision;
        if (last !== undefined) position.delivered = BigInt(last);
        else if (response.header !== null && response.watch_id === watchId && !response.created) {
          position.delivered = BigInt(response.header.revision);
        }
        if (response.header !== null) position.see(response.header);
        this.monitor.tableIs(position.delivered.toString());
      }
    } finally {
      stream.close();
    }
  }

  private eventsOf(response: WatchResponse): LeaseEvent[] {
    const events: LeaseEvent[] = [];
    for (const { type, kv } of response.events) {
      if (kv === null) continue;
      const name = this.nameOf(kv.key);
      if (type === 'PUT') {
        const lease = this.decode(kv);
        if (lease === null) continue;
        this.known.put(name, lease);
        events.push({ type: 'put', lease });
      } else {
        const subnet = this.known.delete(name);
        if (subnet !== null) events.push({ type: 'delete', subnet });
      }
    }
    return events;
  }

  private canceled(stream: WatchStream, response: WatchResponse): void {
    if (response.compact_revision !== '0') {
      this.compacted();
      return;
    }
    // Authentication has been switched on since the last login, or the token is not valid any more.
    if (saysLogIn(response.cancel_reason)) this.client.forgetToken();
    if (response.cancel_reason.includes('permission denied')) {
      this.client.forgetToken();
      throw stream.fail(status.PERMISSION_DENIED, 'permission denied to watch the subnets');
    }
    throw stream.fail(status.UNAVAILABLE, `watch canceled: ${response.cancel_reason || 'no reason given'}`);
  }

  private compacted(): void {
    log.info('etcd has compacted what happened meanwhile; reading all leases anew');
    this.position = null;
  }

  private nameOf(key: Buffer): string {
    return key.toString().slice(this.prefix.length);
  }
}

/**
 * Tells a quiet watch from a dead one. gRPC's keepalive notices a dead connection; this notices a live one
 * behind which nobody is at home (a stuck member, a proxy whose upstream is gone).
 */
class Heartbeat {
  /** etcd before 3.4 does not know progress requests: only one that has answered is held to it. */
  private answers = false;

  constructor(
    private readonly stream: WatchStream,
    private readonly timings: { readonly silenceMs: number; readonly requestMs: number },
  ) {
    stream.requestProgress();
  }

  async next(): Promise<WatchResponse> {
    for (;;) {
      const response = (await this.stream.next(this.timings.silenceMs)) ?? (await this.ask());
      if (response !== null) {
        this.answers ||= response.watch_id === NO_WATCH;
        return response;
      }
    }
  }

  private async ask(): Promise<WatchResponse | null> {
    this.stream.requestProgress();
    const response = await this.stream.next(this.timings.requestMs);
    if (response === null && this.answers) {
      throw this.stream.fail(status.DEADLINE_EXCEEDED, 'the watch has gone silent');
    }
    return response;
  }
}
