/**
 * What the running daemon knows of itself. daemon.ts adds each part as it starts it; health, metrics and status look
 * here and nowhere else. Every look gives the present state; nothing is copied or polled.
 */
import type { BackendNetwork, BackendObservation } from './backend/backend.js';
import type { NetworkConfig } from './config.js';
import type { PeerTraffic } from './dataplane.js';
import type { Options } from './flags.js';
import type { HostFollower, Whereabouts } from './host-follower.js';
import type { LeaseKeeper, LeaseStatus } from './lease/keeper.js';
import type { Lease } from './lease/lease.js';
import type { LeaseTracker } from './lease/tracker.js';
import { recentProblems } from './log.js';
import type { Problem } from './log.js';
import type { StoreHealth } from './subnet/health.js';
import type { SubnetManager } from './subnet/manager.js';
import type { SubnetFileStatus, SubnetFileWriter } from './subnet/subnet-file-writer.js';
import type { TrafficRules, TrafficStatus } from './traffic/traffic-rules.js';

/** How far the daemon is. */
export type Phase =
  | 'starting'
  | 'waiting for the network config'
  | 'waiting for a lease'
  | 'opening the backend'
  | 'running'
  | 'stopping';

/** What the daemon is made of, as far as it has been made. */
export interface Parts {
  readonly manager: SubnetManager;
  readonly config: NetworkConfig;
  /** Lower-case, from --backend or the network config. */
  readonly backendType: string;
  readonly network: BackendNetwork;
  readonly follower: Pick<HostFollower, 'whereabouts'>;
  readonly keeper: Pick<LeaseKeeper, 'status'>;
  readonly tracker: Pick<LeaseTracker, 'leases' | 'size'>;
  readonly subnetFile: Pick<SubnetFileWriter, 'status'>;
  readonly trafficRules: Pick<TrafficRules, 'status'>;
}

export class DaemonState {
  /** Milliseconds since the epoch. */
  readonly startedAt = Date.now();
  phase: Phase = 'starting';
  /** What it waits for has failed like this the last time; null while nothing has. */
  obstacle: string | null = null;
  private parts: Partial<Parts> = {};

  constructor(readonly options: Options) {}

  add(parts: Partial<Parts>): void {
    this.parts = { ...this.parts, ...parts };
  }

  /** For the reader, as in the log: `Etcd Local Manager with Previous Subnet: None`; null before there is one. */
  get storeDescription(): string | null {
    return this.parts.manager?.description ?? null;
  }

  get storeHealth(): StoreHealth | null {
    return this.parts.manager?.health ?? null;
  }

  get config(): NetworkConfig | null {
    return this.parts.config ?? null;
  }

  get backendType(): string | null {
    return this.parts.backendType ?? null;
  }

  /** The device and what moves its packets; null before there is one. */
  get backend(): BackendObservation | null {
    return this.parts.network?.observe() ?? null;
  }

  /** With every peer; see BackendNetwork. */
  get peerTraffic(): readonly PeerTraffic[] {
    return this.parts.network?.peerTraffic() ?? [];
  }

  /** The external interface. */
  get whereabouts(): Whereabouts | null {
    return this.parts.follower?.whereabouts ?? null;
  }

  /** The lease of this host. */
  get lease(): LeaseStatus | null {
    return this.parts.keeper?.status ?? null;
  }

  /** The leases of the other hosts. */
  get peers(): readonly Lease[] {
    return this.parts.tracker?.leases() ?? [];
  }

  /** How many they are, without making a list of them. */
  get peerCount(): number {
    return this.parts.tracker?.size ?? 0;
  }

  /** Null before it was to be written for the first time. */
  get subnetFile(): SubnetFileStatus | null {
    return this.parts.subnetFile?.status ?? null;
  }

  /** Null before they were set up for the first time. */
  get trafficRules(): TrafficStatus | null {
    return this.parts.trafficRules?.status ?? null;
  }

  /** The last warnings and errors of the log, oldest first. */
  get problems(): readonly Problem[] {
    return recentProblems();
  }
}
