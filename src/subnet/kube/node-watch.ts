import { log } from '../../log.js';
import { Backoff, sleep } from '../../retry.js';
import type { StoreMonitor } from '../health.js';
import type { KubeClient } from './client.js';
import { KubeError, statusError } from './error.js';
import { fieldsOf, textOf } from './json.js';
import type { JsonFields } from './json.js';
import { readNode } from './node.js';
import type { KubeNode } from './node.js';

const NODES = '/api/v1/nodes';
const PAGE = 500;

/** How long a watch lasts, in seconds: long where a dead connection is noticed anyway. */
const WATCH_SECONDS = { noticed: 300, unnoticed: 20 };
/** A watch that has lasted so long was a good one. */
const GOOD_MS = 5_000;

/** What became of the nodes. A snapshot replaces everything known before. */
export type NodeEvent<T> =
  | { readonly type: 'snapshot'; readonly nodes: readonly T[] }
  | { readonly type: 'put'; readonly node: T }
  | { readonly type: 'delete'; readonly name: string };

/**
 * The nodes of the cluster: a snapshot, then what changes, over every failure of the API server.
 * @template T what is kept of a node
 */
export class NodeWatch<T> {
  private readonly backoff: Backoff;
  /** Up to which version of the store events have been delivered; null: a snapshot is due. */
  private position: string | null = null;
  /** Status of the last answer, if it was one that asking again does not change. */
  private refusal: number | null = null;
  /** For how long the server wants to be left alone. */
  private restMs = 0;

  /**
   * @param keep called with each node; what it gives is all that is kept of it
   * @param random gives numbers in [0, 1)
   */
  constructor(
    private readonly client: Pick<KubeClient, 'list' | 'watch' | 'noticesSilence'>,
    private readonly keep: (node: KubeNode) => T,
    private readonly monitor: StoreMonitor,
    private readonly random: () => number = Math.random,
  ) {
    this.backoff = new Backoff(100, 3_000, random);
  }

  /** Ends only with the signal. */
  async *run(signal: AbortSignal): AsyncGenerator<readonly NodeEvent<T>[]> {
    do {
      try {
        if (this.position === null) yield [await this.snapshot(signal)];
        yield* this.follow(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof KubeError)) throw error;
        if (error.isGone) this.begunAnew('the API server does not know any more what happened meanwhile');
        else this.lost(error);
        this.restMs = error.retryAfterMs ?? 0;
      }
    } while (await this.rest(signal));
  }

  /** An outage may go on for another reason than it began with; one that an operator has to mend is told. */
  private lost(error: KubeError): void {
    this.monitor.lost(error);
    const { status } = error;
    const isRefusal = status !== null && status >= 400 && status < 500 && status !== 429;
    if (isRefusal && status !== this.refusal) log.error(error.message);
    this.refusal = isRefusal ? status : null;
  }

  private async rest(signal: AbortSignal): Promise<boolean> {
    const ms = this.restMs;
    this.restMs = 0;
    // Spread, so that not all nodes of a cluster come back at the same moment.
    if (ms > 0 && !(await sleep(ms * (1 + this.random() / 4), signal))) return false;
    return this.backoff.wait(signal);
  }

  private async snapshot(signal: AbortSignal): Promise<NodeEvent<T>> {
    try {
      return await this.list(PAGE, signal);
    } catch (error) {
      // The pages that are left of a list are those of its moment, which the server has forgotten by now.
      if (!(error instanceof KubeError) || !error.isGone) throw error;
      return this.list(null, signal);
    }
  }

  private async list(page: number | null, signal: AbortSignal): Promise<NodeEvent<T>> {
    const nodes: T[] = [];
    const onItem = (item: unknown) => {
      const node = readNode(item);
      if (node !== null) nodes.push(this.keep(node));
    };
    const query = page === null ? '' : `?limit=${page}`;
    let next = '';
    let version: string;
    do {
      const more = next === '' ? '' : `&continue=${encodeURIComponent(next)}`;
      const { metadata } = await this.client.list(`${NODES}${query}${more}`, onItem, signal);
      const { continue: rest, resourceVersion } = fieldsOf(metadata);
      version = textOf(resourceVersion);
      next = textOf(rest);
    } while (next !== '');
    this.monitor.answered();
    this.reached(version);
    return { type: 'snapshot', nodes };
  }

  /** Delivers events until the watch ends, or until a snapshot is due. */
  private async *follow(signal: AbortSignal): AsyncGenerator<readonly NodeEvent<T>[]> {
    const from = this.position;
    if (from === null) return;
    const query = `watch=1&allowWatchBookmarks=true&resourceVersion=${encodeURIComponent(from)}`;
    const begun = performance.now();
    for await (const batch of this.client.watch(`${NODES}?${query}`, this.watchSeconds(), signal)) {
      this.monitor.answered();
      this.refusal = null;
      const events: NodeEvent<T>[] = [];
      let version: string | null = null;
      for (const event of batch) {
        const { metadata } = fieldsOf(event.object);
        version = textOf(fieldsOf(metadata).resourceVersion) || version;
        events.push(...this.read(event));
      }
      if (events.length > 0) yield events;
      // After they were taken.
      if (version !== null && this.wentBack(version)) {
        this.begunAnew('the API server has gone back in time (restored from a backup?)');
        return;
      }
      if (version !== null) this.reached(version);
    }
    if (performance.now() - begun > GOOD_MS) this.backoff.reset();
  }

  /** @throws KubeError for an event that says that the watch failed. */
  private read({ type, object }: JsonFields): NodeEvent<T>[] {
    if (type === 'ERROR') throw statusError(JSON.stringify(object), null, null, 'the watch failed');
    const node = type === 'BOOKMARK' ? null : readNode(object);
    if (node === null) return [];
    if (type === 'DELETED') return [{ type: 'delete', name: node.name }];
    if (type === 'ADDED' || type === 'MODIFIED') return [{ type: 'put', node: this.keep(node) }];
    log.v(1).info(`ignoring an event of the type ${JSON.stringify(type)} for node ${node.name}`);
    return [];
  }

  private watchSeconds(): number {
    const seconds = this.client.noticesSilence ? WATCH_SECONDS.noticed : WATCH_SECONDS.unnoticed;
    return Math.ceil(seconds * (1 + this.random()));
  }

  private reached(version: string): void {
    this.position = version;
    this.monitor.tableIs(version);
  }

  /** Versions are etcd's revisions and only grow, until somebody restores an older etcd. */
  private wentBack(version: string): boolean {
    const before = this.position;
    return before !== null && isNumber(before) && isNumber(version) && BigInt(version) < BigInt(before);
  }

  private begunAnew(reason: string): void {
    log.info(`${reason}; reading all nodes anew`);
    this.position = null;
  }
}

function isNumber(version: string): boolean {
  return /^\d+$/.test(version);
}
