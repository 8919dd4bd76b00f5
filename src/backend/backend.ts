import type { NetworkConfig } from '../config.js';
import type { Options } from '../flags.js';
import type { ExternalInterface } from '../iface.js';
import type { Lease, LeaseAttrs } from '../lease/lease.js';

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

/** A backend at work. */
export interface BackendNetwork {
  /** Bytes that fit into one packet of the overlay. */
  readonly mtu: number;

  /** Sends packets according to `peers`, which replace all that were given before. */
  setPeers(peers: readonly Lease[]): void;

  /** Resolves when `signal` fires. @throws FlannelError when packets can no longer be moved. */
  run(signal: AbortSignal): Promise<void>;

  /** Removes the device. Idempotent. */
  close(): void;
}

/** @throws FlannelError when the config's Backend object or the interface cannot serve. */
export type BackendFactory = (
  config: NetworkConfig,
  external: ExternalInterface,
  options: BackendOptions,
) => Backend;
