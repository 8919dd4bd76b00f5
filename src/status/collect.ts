/** Makes the report of what the daemon knows of itself. */
import { formatEndpoint } from '../address.js';
import type { BackendObservation, DataplanePlan } from '../backend/backend.js';
import { tierOf } from '../backend/tiers.js';
import type { NetworkConfig } from '../config.js';
import type { DaemonState } from '../daemon-state.js';
import { counters } from '../dataplane.js';
import type { PeerTraffic, Stats } from '../dataplane.js';
import { allOk, describeFailures, readinessChecks } from '../health.js';
import type { Whereabouts } from '../host-follower.js';
import { formatIp4 } from '../ip.js';
import type { Ip4 } from '../ip.js';
import type { Ip6 } from '../ip6.js';
import { carriesIpv6, formatPublicIp, nextHopOf, ownPortOf } from '../lease/identity.js';
import { formatSubnet } from '../lease/lease.js';
import type { Lease, LeaseAttrs, LeaseSubnet } from '../lease/lease.js';
import { redact } from '../logging/redact.js';
import { VERSION } from '../version.js';
import type { PeerProbe, Target } from './probe.js';
import { SCHEMA } from './report.js';
import type {
  DataplaneReport,
  DirectionReport,
  InterfaceReport,
  LeaseReport,
  NetworkReport,
  PeerReport,
  StatusReport,
  StoreReport,
  TrafficRulesReport,
} from './report.js';

/** Half a second is enough for a living peer on another continent. */
const PATIENCE_MS = 500;

export interface Wanted {
  /** The list of peers. */
  readonly peers: boolean;
  /** Round-trip times that are a few seconds old at most. */
  readonly distances: boolean;
}

/** What the daemon is now. Answers at once, or after half a second where distances are wanted. */
export async function collectStatus(
  state: DaemonState,
  probe: PeerProbe,
  wanted: Wanted,
): Promise<StatusReport> {
  if (wanted.peers && wanted.distances && state.phase === 'running') {
    await probe.refresh(state.peers.flatMap(targetOf), PATIENCE_MS);
  }
  const { backend, whereabouts, config, backendType, subnetFile } = state;
  const plan = backend?.plan ?? null;
  const checks = readinessChecks(state);
  const ready = allOk(checks);
  const now = Date.now();
  return {
    schema: SCHEMA,
    version: VERSION,
    pid: process.pid,
    startedAt: isoTime(state.startedAt),
    at: isoTime(now),
    uptimeSeconds: process.uptime(),
    ready,
    phase: state.phase,
    reason: ready ? null : redact(describeFailures(checks)),
    checks: checks.map(({ name, ok, detail }) => ({ name, ok, detail: redact(detail) })),
    network: config && networkReport(config, backendType),
    lease: leaseReport(state, plan),
    interface: whereabouts && interfaceReport(whereabouts),
    device: backend && {
      name: backend.device,
      mtu: backend.mtu,
      repairs: Object.fromEntries(backend.repairs),
    },
    store: storeReport(state),
    subnetFile: subnetFile && { ...subnetFile, writtenAt: isoOrNull(subnetFile.writtenAt) },
    trafficRules: trafficRulesReport(state),
    dataplane: backend && dataplaneReport(backend),
    peerCount: state.peerCount,
    peers: wanted.peers ? peerReports(state, plan, probe) : [],
    rttUnavailable: probe.unavailable,
    problems: state.problems.map(({ time, severity, message }) => ({
      at: isoTime(time),
      severity: severity === 'W' ? 'warning' : 'error',
      message: redact(message),
    })),
  };
}

/** By IPv4 where the lease has it: that is what every peer carries. */
function targetOf({ subnet }: Lease): Target[] {
  const { v4, v6 } = subnet;
  const overlay = v4 === null ? v6?.network().ip : v4.network().ip;
  return overlay === undefined ? [] : [{ key: formatSubnet(subnet), overlay }];
}

function networkReport(config: NetworkConfig, backendType: string | null): NetworkReport {
  const v4 = config.enableIPv4 ? config.network.toString() : null;
  const v6 = config.enableIPv6 ? (config.ipv6Network?.toString() ?? null) : null;
  return { cidr: v4 ?? v6 ?? '', ipv6Cidr: v4 === null ? null : v6, backend: backendType ?? '' };
}

/** The IPv6 subnet of a lease that formatSubnet() does not name. */
function besideIpv4({ v4, v6 }: LeaseSubnet): string | null {
  return v4 === null || v6 === null ? null : v6.toString();
}

function interfaceReport({ external, running, lost }: Whereabouts): InterfaceReport {
  const { name, address, addressV6, publicIp, publicIpV6, mtu } = external;
  return {
    name,
    address: either(address, addressV6),
    ipv6Address: address === null ? null : addressV6,
    publicIp: either(publicIp, publicIpV6),
    ipv6PublicIp: publicIp === null ? null : publicIpV6,
    mtu,
    running,
    lost,
  };
}

/** The public IPv6 address of a host that formatPublicIp() does not name. */
function publicIpBeside({ publicIp, publicIpV6 }: LeaseAttrs): string | null {
  return publicIp === 0 ? null : publicIpV6;
}

function leaseReport({ lease: status }: DaemonState, plan: DataplanePlan | null): LeaseReport | null {
  if (status === null) return null;
  const { lease, renewAt, held } = status;
  return {
    subnet: formatSubnet(lease.subnet),
    ipv6Subnet: besideIpv4(lease.subnet),
    publicIp: formatPublicIp(lease.attrs),
    ipv6PublicIp: publicIpBeside(lease.attrs),
    port: plan?.port ?? null,
    expiresAt: isoOrNull(lease.expiration),
    renewsAt: isoOrNull(renewAt),
    reservation: lease.expiration === null,
    held,
  };
}

function storeReport({ storeDescription, storeHealth: health }: DaemonState): StoreReport | null {
  if (health === null) return null;
  return {
    description: storeDescription ?? '',
    reachable: health.reachable,
    since: isoTime(health.since),
    forSeconds: health.forMs / 1000,
    lastError: health.lastError && redact(health.lastError),
    hasTable: health.hasTable,
    silentSeconds: health.silentForMs === null ? null : health.silentForMs / 1000,
    tableRevision: health.tableRevision,
  };
}

function trafficRulesReport({ trafficRules: rules }: DaemonState): TrafficRulesReport | null {
  if (rules === null) return null;
  return {
    manager: rules.manager,
    inPlace: rules.inPlace,
    incompleteSince: isoOrNull(rules.incompleteSince),
    repairs: rules.repairs,
    lastRepair: rules.lastRepair?.toISOString() ?? null,
    lastError: rules.lastError && redact(rules.lastError),
  };
}

function dataplaneReport({ dataplane, plan, failure }: BackendObservation): DataplaneReport | null {
  if (dataplane === null || plan === null) return null;
  const { standing, stoodBy, features, routes, restarts } = dataplane;
  return {
    standing,
    stoodBy,
    tier: tierOf(features),
    features,
    missing: plan.features.filter((feature) => !features.includes(feature)),
    queues: plan.queues,
    threads: plan.threads,
    routes,
    restarts,
    failure,
    encap: directionReport(dataplane, 'encap'),
    decap: directionReport(dataplane, 'decap'),
  };
}

function directionReport({ counters: values }: Stats, direction: 'encap' | 'decap'): DirectionReport {
  const count = (wanted: string) => values[counters.findIndex(({ name }) => name === wanted)] ?? 0;
  const drops = counters.flatMap((counter, i) => {
    const value = values[i] ?? 0;
    const counts = counter.direction === direction && counter.role === 'drop' && value > 0;
    return counts ? [[counter.name, value] as const] : [];
  });
  return {
    packetsIn: count(`${direction}_packets_in`),
    packetsOut: count(`${direction}_packets_out`),
    bytes: count(`${direction}_bytes`),
    drops: Object.fromEntries(drops),
  };
}

function peerReports(state: DaemonState, plan: DataplanePlan | null, probe: PeerProbe): PeerReport[] {
  const traffic = new Map(
    state.peerTraffic.map((figures) => [formatEndpoint(figures.address, figures.port), figures]),
  );
  const interfaceMtu = state.whereabouts?.external.mtu ?? null;
  return state.peers.map(({ subnet, attrs }: Lease) => {
    const port = plan && portOf(attrs, plan);
    const hop = plan && nextHopOf(attrs, plan.underlay);
    const figures = port === null || hop === null ? undefined : traffic.get(formatEndpoint(hop, port));
    const distance = probe.of(formatSubnet(subnet));
    return {
      subnet: formatSubnet(subnet),
      ipv6Subnet: besideIpv4(subnet),
      ipv6: state.config?.enableIPv6 === true && subnet.v6 !== null && hop !== null && carriesIpv6(attrs),
      publicIp: formatPublicIp(attrs),
      ipv6PublicIp: publicIpBeside(attrs),
      port,
      traffic: figures === undefined ? null : withoutAddress(figures),
      rttMs: distance?.rttMs ?? null,
      answers: distance === undefined ? null : distance.rttMs !== null,
      pathMtu: figures?.pathMtu ?? interfaceMtu,
    };
  });
}

function withoutAddress({ packetsOut, bytesOut, packetsIn, bytesIn }: PeerTraffic) {
  return { packetsOut, bytesOut, packetsIn, bytesIn };
}

/** Where the backend sends to; it has warned of a port that makes no sense. */
function portOf(attrs: LeaseAttrs, { networkPort }: DataplanePlan): number {
  try {
    return ownPortOf(attrs) ?? networkPort;
  } catch {
    return networkPort;
  }
}

const isoTime = (ms: number) => new Date(ms).toISOString();
const isoOrNull = (ms: number | null) => (ms === null ? null : isoTime(ms));

/** The address of a host that has one of the families, the IPv4 one where it has both. */
function either(v4: Ip4 | null, v6: Ip6 | null): string {
  return v4 === null ? (v6 ?? '') : formatIp4(v4);
}
