import { FlannelError, LeaseError, messageOf } from '../../errors.js';
import type { LeaseAttrs, LeaseSubnet } from '../../lease/lease.js';
import { log } from '../../log.js';
import { Alarm, Backoff } from '../../retry.js';
import type { AnnotationNames } from './annotations.js';
import type { KubeClient } from './client.js';
import { KubeError } from './error.js';
import {
  annotationsFor,
  hasAnnotations,
  NETWORK_UNAVAILABLE,
  networkUnavailable,
  podCidrsOf,
  readNode,
} from './node.js';
import type { KubeNode } from './node.js';

/** Between two attempts to write, in milliseconds; also against somebody who writes something else each time. */
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 5_000;
/** After so long without writing, the next attempt is a first one. */
const QUIET_MS = 60_000;

/** Our node in the cluster: makes it say what it should, and keeps it so. */
export class OwnNode {
  private attrs: LeaseAttrs | null = null;
  private subnet: LeaseSubnet | null = null;
  /** As seen last; null while there is none, or it is not known. */
  private node: KubeNode | null = null;
  private conditionDue: boolean;
  private complaint = '';
  private readonly changed = new Alarm();

  /** @param setsCondition whether the condition NetworkUnavailable is ours to clear */
  constructor(
    private readonly client: Pick<KubeClient, 'get' | 'patch'>,
    readonly name: string,
    private readonly names: AnnotationNames,
    private readonly setsCondition: boolean,
  ) {
    this.conditionDue = setsCondition;
  }

  /** @throws KubeError, of status 404 where there is no such node. */
  async read(signal: AbortSignal): Promise<KubeNode> {
    const node = readNode(await this.client.get(this.path, signal));
    if (node === null) throw new KubeError(`the API server's node ${this.name} is no node`);
    return node;
  }

  /**
   * Makes others see `attrs` from now on; resolves once the API server has them.
   * @param node as it was just read
   */
  async announce(node: KubeNode, attrs: LeaseAttrs, subnet: LeaseSubnet, signal: AbortSignal): Promise<void> {
    this.attrs = attrs;
    this.subnet = subnet;
    this.node = node;
    await this.writeAnnotations(node, attrs, signal);
  }

  /**
   * The cluster's word for our node: null when it was deleted.
   * @param anew a snapshot: versions seen before mean nothing any more
   */
  observe(node: KubeNode | null, anew: boolean): void {
    if (node === null) {
      if (this.node !== null) log.warning(`the node ${this.name} was deleted; waiting for it to come back`);
    } else if (!anew && this.isOutdated(node)) return;
    this.node = node;
    this.changed.ring();
  }

  /**
   * Keeps annotations and condition what they should be, until `signal` fires.
   * @throws LeaseError when the node has got another subnet.
   */
  async keep(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(FIRST_RETRY_MS, LAST_RETRY_MS, Math.random);
    let writtenAt = -Infinity;
    for (;;) {
      const { node } = this;
      if (node === null || this.isRight(node)) {
        if (performance.now() - writtenAt > QUIET_MS) backoff.reset();
        if (!(await this.changed.wait(null, signal))) return;
      } else {
        writtenAt = performance.now();
        await this.mend(node, signal);
        if (!(await backoff.wait(signal))) return;
      }
    }
  }

  private isRight(node: KubeNode): boolean {
    this.checkSubnet(node);
    return this.hasAnnotations(node) && !this.needsCondition(node);
  }

  private hasAnnotations(node: KubeNode): boolean {
    return this.attrs === null || hasAnnotations(node, annotationsFor(this.attrs, node, this.names));
  }

  /** Once at the start whatever it is, as stock flannel does; later when somebody has set it again. */
  private needsCondition(node: KubeNode): boolean {
    return this.setsCondition && (this.conditionDue || networkUnavailable(node) !== 'False');
  }

  /** A node that was deleted and has come back may have got another pod CIDR, or none yet. */
  private checkSubnet(node: KubeNode): void {
    const before = this.subnet?.v4 ?? null;
    if (before === null || node.podCidrs.length === 0) return;
    let now: string | undefined;
    try {
      const { v4 } = podCidrsOf(node);
      if (v4?.equals(before) === true) return;
      now = v4?.toString();
    } catch (error) {
      now = messageOf(error);
    }
    throw new LeaseError(
      `the pod CIDR of the node ${this.name} was ${before.toString()} and is ${now ?? 'no IPv4 one'} now; start this ` +
        'daemon again to use it, and restart the pods of this node',
    );
  }

  private async mend(node: KubeNode, signal: AbortSignal): Promise<void> {
    try {
      if (this.attrs !== null && !this.hasAnnotations(node)) {
        log.warning(`the annotations of the node ${this.name} were changed or removed; writing them again`);
        await this.writeAnnotations(node, this.attrs, signal);
      } else await this.writeCondition(signal);
      this.complaint = '';
    } catch (error) {
      if (!signal.aborted) this.complain(error);
    }
  }

  private async writeAnnotations(node: KubeNode, attrs: LeaseAttrs, signal: AbortSignal): Promise<void> {
    const annotations = annotationsFor(attrs, node, this.names);
    if (hasAnnotations(node, annotations)) return;
    await this.patch({ metadata: { annotations } }, signal);
  }

  private async writeCondition(signal: AbortSignal): Promise<void> {
    const now = `${new Date().toISOString().slice(0, 19)}Z`;
    const condition = {
      type: NETWORK_UNAVAILABLE,
      status: 'False',
      reason: 'FlannelIsUp',
      message: 'Flannel is running on this node',
      lastTransitionTime: now,
      lastHeartbeatTime: now,
    };
    await this.patch({ status: { conditions: [condition] } }, signal);
    this.conditionDue = false;
    log.info(`the node ${this.name} says that its network is available`);
  }

  private async patch(patch: unknown, signal: AbortSignal): Promise<void> {
    const after = readNode(await this.client.patch(`${this.path}/status`, patch, signal));
    if (after !== null && (this.node === null || !this.isOutdated(after))) this.node = after;
  }

  /** Versions of one object grow; what is older comes late. */
  private isOutdated({ resourceVersion }: KubeNode): boolean {
    const before = this.node?.resourceVersion ?? '';
    return /^\d+ \d+$/.test(`${before} ${resourceVersion}`) && BigInt(resourceVersion) < BigInt(before);
  }

  private complain(error: unknown): void {
    if (!(error instanceof FlannelError) || !error.retryable) throw error;
    const text = `cannot write to the node ${this.name}, trying again: ${messageOf(error)}`;
    if (text === this.complaint) log.v(2).info(text);
    else log.error(text);
    this.complaint = text;
  }

  private get path(): string {
    return `/api/v1/nodes/${encodeURIComponent(this.name)}`;
  }
}
