import type { NetworkConfig } from '../config.js';
import type { Feature, PeerTraffic, Stats } from '../dataplane.js';
import type { Options } from '../flags.js';
import type { ExternalInterface } from '../iface/external-interface.js';
import type { Lease, LeaseAttrs } from '../lease/lease.js';
import type { HostNetwork } from '../netlink/rtnetlink.js';

/** What the command line adds to a backend's own config. */
export type BackendOptions = Pick<
  Options,
  | 'dataplaneTier'
  | 'dataplaneThreads'
  | 'dataplaneDisable'
  | 'dataplaneQueues'
  | 'dataplaneSourcePorts'
  | 'dataplaneReceiveBuffer'
  | 'dataplaneSendBuffer'
  | 'udpPort'
  | 'controlSocket'
  | 'handoverGeneration'
  | 'subnetFile'
>;

/** A way to carry packets to the hosts that hold the other leases. */
export interface Backend {
  /** What this host announces with its lease. */
  readonly attrs: LeaseAttrs;

  /**
   * Makes the device for the acquired lease.
   * @throws FlannelError; nothing is left behind then.
   */
  open(lease: Lease): BackendNetwork;
}

/** A backend at work, as it is at this moment. */
export interface BackendObservation {
  /** See BackendNetwork. */
  readonly device: string;
  readonly mtu: number;
  /** How often what about the device was restored, by what it was. */
  readonly repairs: ReadonlyMap<string, number>;
  /** Why no packets are moved; null while they are, or while another process does it until this one takes over. */
  readonly failure: string | null;
  /** What the packet forwarder of this process says; null for a backend that leaves packets to the kernel. */
  readonly dataplane: Stats | null;
  /** What it was told to do; null where `dataplane` is. */
  readonly plan: DataplanePlan | null;
}

/** The family of the datagrams, whatever is inside. */
export type Underlay = 'ipv4' | 'ipv6';

/** What the packet forwarder was told. */
export interface DataplanePlan {
  /** UDP port of this host. */
  readonly port: number;
  /** Of peers that announce none of their own. */
  readonly networkPort: number;
  /** The family of the datagrams. */
  readonly underlay: Underlay;
  /** Wanted, whatever the kernel has of it. */
  readonly features: readonly Feature[];
  readonly queues: number;
  readonly threads: 'single' | 'split';
}

/** A backend at work. */
export interface BackendNetwork {
  /** The name of the device through which this host's packets enter the overlay. */
  readonly device: string;

  /** Bytes that fit into one packet of the overlay. */
  readonly mtu: number;

  /** What this host announces where it is now. */
  readonly attrs: LeaseAttrs;

  /** Cheap enough to be called by every health check; also after close(). */
  observe(): BackendObservation;

  /** The traffic with every peer, as far as this process moves the packets; of 65,536 it takes milliseconds. */
  peerTraffic(): readonly PeerTraffic[];

  /**
   * Sends packets according to `peers`, which replace all that were given before. With the first ones takes over from
   * the process that has moved the packets until then, if there is one. @throws FlannelError when it does not let go.
   */
  setPeers(peers: readonly Lease[]): void;

  /**
   * Changes peers, on top of those set before; costs what changes, not what stays. False, and nothing has changed, when
   * only setPeers() can tell the outcome.
   */
  changePeers(put: readonly Lease[], removed: readonly Lease[]): boolean;

  /**
   * The external interface has another address, public IP or MTU, or is another one: goes there under running
   * traffic. @throws FlannelError; then it may be half-way there, and the call can be repeated.
   */
  moveTo(external: ExternalInterface): void;

  /**
   * Makes the device again what it was made, as far as `host` shows it changed. Idempotent.
   * @returns false when something is left that should be tried again in a while.
   */
  repair(host: HostNetwork): boolean;

  /**
   * Resolves when `signal` fires, or when another process has taken over.
   * @throws FlannelError when packets can no longer be moved.
   */
  run(signal: AbortSignal): Promise<void>;

  /** Removes the device, unless another process goes on with it. Idempotent. */
  close(): void;
}

/** @throws FlannelError when the config's Backend object or the interface cannot serve. */
export type BackendFactory = (
  config: NetworkConfig,
  external: ExternalInterface,
  options: BackendOptions,
) => Backend;
