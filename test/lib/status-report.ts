/** Reports: of a running daemon, and one to try views on. */
import { FLANNELD } from '../../bench/daemon.js';
import type { Daemon } from '../../bench/daemon.js';
import type { PeerReport, StatusReport } from '../../src/status/report.js';

/** What `flanneld status --json` says of a daemon. */
export async function statusOf({ host, subnetFile }: Daemon): Promise<StatusReport> {
  const flags = ['status', '--json', `--subnet-file=${subnetFile}`];
  const { stdout } = await host.exec(process.execPath, FLANNELD, ...flags);
  return JSON.parse(stdout) as StatusReport;
}

export function samplePeer(number: number, bytesOut: number, more: Partial<PeerReport> = {}): PeerReport {
  return {
    subnet: `10.244.${number}.0/24`,
    ipv6Subnet: null,
    ipv6: false,
    publicIp: `192.0.2.${number}`,
    ipv6PublicIp: null,
    port: 8285,
    traffic: { packetsOut: bytesOut / 1000, bytesOut, packetsIn: 10, bytesIn: 840 },
    rttMs: 0.25 * number,
    answers: true,
    pathMtu: 1500,
    ...more,
  };
}

export const SAMPLE: StatusReport = {
  schema: 1,
  version: '1.2.3',
  pid: 4321,
  startedAt: '2026-01-01T00:00:00.000Z',
  at: '2026-01-01T03:12:05.000Z',
  uptimeSeconds: 11_525,
  ready: true,
  phase: 'running',
  reason: null,
  checks: [],
  network: { cidr: '10.244.0.0/16', ipv6Cidr: null, backend: 'udp' },
  lease: {
    subnet: '10.244.7.0/24',
    ipv6Subnet: null,
    publicIp: '192.0.2.7',
    ipv6PublicIp: null,
    port: 8285,
    expiresAt: '2026-01-02T00:00:00.000Z',
    renewsAt: '2026-01-01T23:00:00.000Z',
    reservation: false,
    held: true,
  },
  interface: {
    name: 'eth0',
    address: '192.0.2.7',
    ipv6Address: null,
    publicIp: '192.0.2.7',
    ipv6PublicIp: null,
    mtu: 1500,
    running: true,
    lost: null,
  },
  device: { name: 'flannel0', mtu: 1472, repairs: {} },
  store: {
    description: 'Etcd Local Manager with Previous Subnet: None',
    reachable: true,
    since: '2026-01-01T00:00:01.000Z',
    forSeconds: 11_524,
    lastError: null,
    hasTable: true,
    silentSeconds: 3,
    tableRevision: '12',
  },
  subnetFile: { path: '/run/flannel/subnet.env', writtenAt: '2026-01-01T00:00:01.000Z', error: null },
  trafficRules: {
    manager: 'iptables',
    inPlace: true,
    incompleteSince: null,
    repairs: 2,
    lastRepair: '2026-01-01T03:07:05.000Z',
    lastError: null,
  },
  dataplane: {
    standing: 'owner',
    stoodBy: true,
    tier: 'udp-offload',
    features: ['batch', 'gso', 'gro'],
    missing: ['tso', 'uso'],
    queues: 2,
    threads: 'split',
    routes: 4,
    restarts: 0,
    failure: null,
    encap: { packetsIn: 1012, packetsOut: 1000, bytes: 1_200_000, drops: { encap_no_route: 12 } },
    decap: { packetsIn: 40, packetsOut: 40, bytes: 3360, drops: {} },
  },
  peerCount: 4,
  peers: [
    samplePeer(8, 200_000),
    samplePeer(9, 1_000_000),
    samplePeer(10, 0, { rttMs: null, answers: false, pathMtu: 1400 }),
    samplePeer(11, 0, { traffic: null, rttMs: null, answers: null }),
  ],
  rttUnavailable: null,
  problems: [
    {
      at: '2026-01-01T03:00:00.000Z',
      severity: 'warning',
      message: 'lost etcd (connection refused); keeping the leases known so far and trying to reconnect',
    },
  ],
};
