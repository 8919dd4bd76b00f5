import type { NetworkConfig } from '../../config.js';
import { LeaseError } from '../../errors.js';
import type { LeaseAttrs, LeaseSubnet, OwnLease, StoredLease } from '../../lease/lease.js';
import { log } from '../../log.js';
import { sleep } from '../../retry.js';
import type { StoreHealth, StoreMonitor } from '../health.js';
import type { LeaseEvent, PublicAddresses, SubnetManager } from '../manager.js';
import type { AnnotationNames } from './annotations.js';
import type { KubeClient } from './client.js';
import { KubeError } from './error.js';
import { textOf } from './json.js';
import { leaseOf, subnetOf } from './node.js';
import type { KubeNode } from './node.js';
import { NodeTable } from './node-table.js';
import type { NodeEntry } from './node-table.js';
import { NodeWatch } from './node-watch.js';
import type { NodeEvent } from './node-watch.js';
import { OwnNode } from './own-node.js';

/** A node may be registered a little later than its flanneld starts. */
const NODE_TRIES = 30;
const NODE_RETRY_MS = 1_000;

/** A node as far as it is kept: of the own one everything. */
interface Kept extends NodeEntry {
  readonly own: KubeNode | null;
}

/**
 * Kubernetes as the store: kube-controller-manager has given each node its subnet (podCIDR), and a node's annotations
 * say how it is reached. Leases do not run out; a node that goes takes its lease with it.
 */
export class KubeManager implements SubnetManager {
  readonly description: string;
  private readonly own: OwnNode;
  private ownLease: OwnLease | null = null;

  /**
   * @param nodeName of this host
   * @param config from the net-conf file, read once
   * @param setsCondition see OwnNode
   */
  constructor(
    private readonly client: KubeClient,
    private readonly nodeName: string,
    private readonly config: NetworkConfig,
    private readonly names: AnnotationNames,
    setsCondition: boolean,
    private readonly monitor: StoreMonitor,
  ) {
    this.description = `Kubernetes Subnet Manager - ${nodeName}`;
    this.own = new OwnNode(client, nodeName, names, setsCondition);
  }

  getNetworkConfig(): Promise<NetworkConfig> {
    return Promise.resolve(this.config);
  }

  async publicAddresses(signal: AbortSignal): Promise<PublicAddresses> {
    const { annotations } = await this.readNode(signal);
    return {
      v4: textOf(annotations[this.names.nodePublicIp]) || null,
      v6: textOf(annotations[this.names.nodePublicIpV6]) || null,
    };
  }

  async acquireLease(attrs: LeaseAttrs, signal: AbortSignal): Promise<OwnLease> {
    const node = await this.readNode(signal);
    return this.hold(node, subnetOf(node, this.config), attrs, signal);
  }

  /** Nothing runs out here: this is for other attributes. */
  async renewLease(lease: OwnLease, signal: AbortSignal, attrs = lease.attrs): Promise<OwnLease> {
    return this.hold(await this.readNode(signal), lease.subnet, attrs, signal);
  }

  touchLease(lease: OwnLease, signal: AbortSignal): Promise<OwnLease | null> {
    return this.renewLease(lease, signal);
  }

  async *watchLeases(signal: AbortSignal): AsyncGenerator<readonly LeaseEvent[]> {
    const table = new NodeTable(() => this.ownLease?.subnet ?? null);
    const watch = new NodeWatch(this.client, (node) => this.kept(node), this.monitor);
    for await (const events of watch.run(signal)) {
      const changes = events.flatMap((event) => this.leaseEvents(event, table));
      if (changes.length > 0) yield changes;
    }
  }

  maintain(signal: AbortSignal): Promise<void> {
    return this.own.keep(signal);
  }

  get health(): StoreHealth {
    return this.monitor.health;
  }

  close(): void {
    this.client.close();
  }

  /** The own node. @throws LeaseError when there is none after a while, KubeError. */
  private async readNode(signal: AbortSignal): Promise<KubeNode> {
    for (let tries = 1; ; tries++) {
      try {
        const node = await this.own.read(signal);
        this.monitor.answered();
        return node;
      } catch (error) {
        if (!(error instanceof KubeError)) throw error;
        if (error.status !== 404) {
          this.monitor.failed(error);
          throw error;
        }
        if (tries === NODE_TRIES) {
          throw new LeaseError(
            `there is no node ${JSON.stringify(this.nodeName)}: register it (kubelet does), or name another with ` +
              'NODE_NAME',
          );
        }
        if (tries === 1) log.info(`waiting for the node ${this.nodeName} to be registered`);
        if (!(await sleep(NODE_RETRY_MS, signal))) signal.throwIfAborted();
      }
    }
  }

  private async hold(
    node: KubeNode,
    subnet: LeaseSubnet,
    attrs: LeaseAttrs,
    signal: AbortSignal,
  ): Promise<OwnLease> {
    await this.own.announce(node, attrs, subnet, signal);
    this.ownLease = { subnet, attrs, expiration: null, revision: this.nodeName };
    return this.ownLease;
  }

  private kept(node: KubeNode): Kept {
    const own = node.name === this.nodeName ? node : null;
    const found = leaseOf(node, this.names, this.config);
    if (found.subnet === null) return { name: node.name, lease: null, problem: found.problem, own };
    return { name: node.name, lease: stored(found, node.name, 'unknown'), problem: null, own };
  }

  private leaseEvents(event: NodeEvent<Kept>, table: NodeTable): LeaseEvent[] {
    switch (event.type) {
      case 'snapshot': {
        const own = event.nodes.find((node) => node.own !== null)?.own ?? null;
        this.own.observe(own, true);
        const others = event.nodes.filter((node) => node.own === null);
        return [{ type: 'snapshot', leases: [...table.replace(others), ...this.ownStored()] }];
      }
      case 'put':
        if (event.node.own === null) return table.put(event.node);
        this.own.observe(event.node.own, false);
        return [];
      case 'delete':
        if (event.name !== this.nodeName) return table.delete(event.name);
        this.own.observe(null, false);
        return [];
    }
  }

  /** Ours for as long as this daemon runs: what is written about it is OwnNode's business. */
  private ownStored(): StoredLease[] {
    return this.ownLease === null ? [] : [stored(this.ownLease, this.ownLease.revision, 'here')];
  }
}

function stored(
  { subnet, attrs }: { readonly subnet: LeaseSubnet; readonly attrs: LeaseAttrs },
  revision: string,
  writer: StoredLease['writer'],
): StoredLease {
  return { subnet, attrs, revision, reservation: true, writer };
}
