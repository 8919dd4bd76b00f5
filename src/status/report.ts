/**
 * What a running flanneld tells of itself: one JSON document, the same for `flanneld status`, the page and other
 * programs. docs/status.md describes it for readers. Type only: the page reads the same document.
 */

/** Rises when a field changes its meaning or goes away; that others are added leaves it. */
export const SCHEMA = 1;

export interface StatusReport {
  readonly schema: typeof SCHEMA;
  readonly version: string;
  readonly pid: number;
  /** Times are ISO 8601 in UTC. */
  readonly startedAt: string;
  /** When this document was made. */
  readonly at: string;
  readonly uptimeSeconds: number;
  /** Whether containers on this host have a subnet whose packets reach other hosts. */
  readonly ready: boolean;
  /** How far the daemon is, e.g. `waiting for the network config`, `running`. */
  readonly phase: string;
  /** In one line why it is not ready; null while it is. */
  readonly reason: string | null;
  readonly checks: readonly CheckReport[];
  readonly network: NetworkReport | null;
  readonly lease: LeaseReport | null;
  readonly interface: InterfaceReport | null;
  readonly device: DeviceReport | null;
  readonly store: StoreReport | null;
  readonly subnetFile: {
    readonly path: string;
    readonly writtenAt: string | null;
    readonly error: string | null;
  } | null;
  /** Null before they were set up. */
  readonly trafficRules: TrafficRulesReport | null;
  readonly dataplane: DataplaneReport | null;
  readonly peerCount: number;
  /** Empty where the reader asked for none. */
  readonly peers: readonly PeerReport[];
  /** Why no round-trip times are measured; null where they are. */
  readonly rttUnavailable: string | null;
  /** The last warnings and errors of the log, oldest first. */
  readonly problems: readonly ProblemReport[];
}

/** One thing that readiness depends on. */
export interface CheckReport {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
}

export interface NetworkReport {
  /** Of IPv4 where the network has that, else of IPv6. */
  readonly cidr: string;
  /** That of IPv6 beside it; null where there is none. */
  readonly ipv6Cidr: string | null;
  readonly backend: string;
}

export interface LeaseReport {
  /** Of IPv4 where the lease has one, else of IPv6. */
  readonly subnet: string;
  /** That of IPv6 beside it; null where there is none. */
  readonly ipv6Subnet: string | null;
  readonly publicIp: string;
  /** That of IPv6 beside it; null where there is none. */
  readonly ipv6PublicIp: string | null;
  /** UDP port that peers send to; null for a backend without one. */
  readonly port: number | null;
  /** Null for a reservation, which never runs out. */
  readonly expiresAt: string | null;
  readonly renewsAt: string | null;
  readonly reservation: boolean;
  /** Whether the store has it as this host's. */
  readonly held: boolean;
}

/** The interface that carries the traffic between hosts. */
export interface InterfaceReport {
  readonly name: string;
  /** Of IPv4 where the tunnel or the network has that, else of IPv6. */
  readonly address: string;
  /** That of IPv6 beside it; null where there is none. */
  readonly ipv6Address: string | null;
  readonly publicIp: string;
  /** That of IPv6 beside it; null where there is none. */
  readonly ipv6PublicIp: string | null;
  /** Bytes. */
  readonly mtu: number;
  readonly running: boolean;
  /** Why there is no address to be bound to; null while there is one. */
  readonly lost: string | null;
}

/** The device through which this host's packets enter the overlay. */
export interface DeviceReport {
  readonly name: string;
  /** Bytes. */
  readonly mtu: number;
  /** How often what about it was restored after somebody had changed it. */
  readonly repairs: Readonly<Record<string, number>>;
}

export interface StoreReport {
  /** As in the log, e.g. `Etcd Local Manager with Previous Subnet: None`. */
  readonly description: string;
  readonly reachable: boolean;
  /** Since when it is, or is not, reachable. */
  readonly since: string;
  readonly forSeconds: number;
  readonly lastError: string | null;
  /** Whether a table of leases has arrived; packets flow by it whatever becomes of the store. */
  readonly hasTable: boolean;
  /** How long the store has said nothing, hence the greatest age of the table; null before it has answered. */
  readonly silentSeconds: number | null;
  readonly tableRevision: string | null;
}

/** The host's rules that forward and masquerade what the containers send; docs/firewall.md lists them. */
export interface TrafficRulesReport {
  /** `iptables` or `nftables`; null where no rules are wanted. */
  readonly manager: string | null;
  /** Whether they were complete when they were last looked at; false where that look failed. */
  readonly inPlace: boolean;
  /** Since when they are known to be incomplete; null while they are not. */
  readonly incompleteSince: string | null;
  /** How often somebody's changes were undone. */
  readonly repairs: number;
  readonly lastRepair: string | null;
  /** Why the last look at them failed; null when it did not. */
  readonly lastError: string | null;
}

export interface DataplaneReport {
  /** `owner` forwards; see native/index.d.ts. */
  readonly standing: string;
  /** Whether a process stands by that would forward in this one's place at once. */
  readonly stoodBy: boolean;
  readonly tier: string;
  readonly features: readonly string[];
  /** Wanted, but not (any more) to be had from this kernel. */
  readonly missing: readonly string[];
  readonly queues: number;
  readonly threads: string;
  readonly routes: number;
  /** How often its threads were started again. */
  readonly restarts: number;
  readonly failure: string | null;
  /** From the TUN device to the peers. */
  readonly encap: DirectionReport;
  /** From the peers to the TUN device. */
  readonly decap: DirectionReport;
}

/** Since the dataplane was opened; in = out + the sum of the drops. */
export interface DirectionReport {
  readonly packetsIn: number;
  readonly packetsOut: number;
  /** Of inner packets that went out. */
  readonly bytes: number;
  /** By the names of native/counters.def; those that are 0 are left out. */
  readonly drops: Readonly<Record<string, number>>;
}

export interface PeerReport {
  /** Of IPv4 where the lease has one, else of IPv6. */
  readonly subnet: string;
  /** That of IPv6 beside it; null where there is none. */
  readonly ipv6Subnet: string | null;
  /** Whether IPv6 is sent to it: not to a host that does not announce to carry any, such as one of stock flannel. */
  readonly ipv6: boolean;
  /** Of IPv4 where the lease has one, else of IPv6. */
  readonly publicIp: string;
  /** That of IPv6 beside it; null where there is none. */
  readonly ipv6PublicIp: string | null;
  readonly port: number | null;
  /** Null where the dataplane does not count by peer. */
  readonly traffic: TrafficReport | null;
  /** The last round trip over the overlay in milliseconds; null while none was measured or none came back. */
  readonly rttMs: number | null;
  /** Whether the last echo was answered; null while none was sent. */
  readonly answers: boolean | null;
  /** The largest packet of the underlay towards the peer's public IP, in bytes, as far as the kernel knows. */
  readonly pathMtu: number | null;
}

/** Of inner packets, as seen from this host. */
export interface TrafficReport {
  readonly packetsOut: number;
  readonly bytesOut: number;
  readonly packetsIn: number;
  readonly bytesIn: number;
}

export interface ProblemReport {
  readonly at: string;
  readonly severity: 'warning' | 'error';
  readonly message: string;
}
