/** Metrics of the control plane: the daemon itself, its lease, the store and the process. */
import { readdirSync } from 'node:fs';
import type { DaemonState } from '../daemon-state.js';
import { allOk, livenessChecks, readinessChecks } from '../health.js';
import type { ExternalInterface } from '../iface/external-interface.js';
import { formatIp4 } from '../ip.js';
import { countHosts } from '../lease/allocate.js';
import type { Lease } from '../lease/lease.js';
import { VERSION } from '../version.js';
import { one } from './family.js';
import type { Family, Labels } from './family.js';

export function daemonFamilies(state: DaemonState): Family[] {
  const checks = readinessChecks(state);
  const build = { version: VERSION, node: process.versions.node, backend: state.backendType ?? '' };
  return [
    gauge('flanneld_build_info', 'What runs; always 1.', [{ labels: build, value: 1 }]),
    gauge('flanneld_healthy', 'Whether /healthz says so.', one(allOk(livenessChecks(state)))),
    gauge('flanneld_ready', 'Whether /readyz says so.', one(allOk(checks))),
    gauge(
      'flanneld_check_ok',
      'The outcome of each check of /readyz?verbose.',
      checks.map(({ name, ok }) => ({ labels: { check: name }, value: Number(ok) })),
    ),
    ...storeFamilies(state),
    ...leaseFamilies(state),
    ...trafficFamilies(state),
    ...processFamilies(state),
  ];
}

function storeFamilies({ storeHealth: health }: DaemonState): Family[] {
  const silentForMs = health?.silentForMs ?? null;
  const outageMs = health === null || health.reachable ? 0 : health.forMs;
  return [
    gauge('flanneld_store_reachable', 'Whether the store answered last.', one(health?.reachable ?? null)),
    gauge(
      'flanneld_store_outage_seconds',
      'For how long the store has been away; 0 while it is reachable.',
      one(health === null ? null : outageMs / 1000),
    ),
    gauge(
      'flanneld_store_lag_seconds',
      'Time since the store last said something, hence the greatest age of what is known of it.',
      one(silentForMs === null ? null : silentForMs / 1000),
    ),
  ];
}

function leaseFamilies(state: DaemonState): Family[] {
  const { lease: status, config, peers, whereabouts } = state;
  const leases = [...peers, ...(status === null ? [] : [status.lease])];
  const taken = leases.map(({ subnet }) => subnet);
  const subnets = config === null ? null : countHosts(config, taken);
  const expiration = status?.lease.expiration ?? null;
  const renewAt = status?.renewAt ?? null;
  return [
    gauge('flanneld_peers', 'Leases of other hosts.', one(peers.length)),
    gauge(
      'flanneld_subnets',
      'Subnets that the network config allows, of the family that has fewer.',
      one(subnets?.all ?? null),
    ),
    gauge('flanneld_subnets_free', 'Those of them that no lease overlaps.', one(subnets?.free ?? null)),
    gauge(
      'flanneld_lease_info',
      'What this host has and announces, "" for a family that it lacks; always 1.',
      status === null ? [] : [{ labels: leaseLabels(status.lease), value: 1 }],
    ),
    gauge(
      'flanneld_interface_info',
      'What carries the traffic between hosts; always 1.',
      whereabouts === null ? [] : [{ labels: interfaceLabels(whereabouts.external), value: 1 }],
    ),
    gauge(
      'flanneld_lease_held',
      'Whether the store has the lease as of this host.',
      one(status?.held ?? null),
    ),
    gauge(
      'flanneld_lease_expiry_timestamp_seconds',
      'When the lease of this host runs out; missing for a reservation.',
      one(expiration === null ? null : expiration / 1000),
    ),
    gauge(
      'flanneld_lease_renewal_timestamp_seconds',
      'When it is to be renewed; missing for a reservation.',
      one(renewAt === null ? null : renewAt / 1000),
    ),
  ];
}

function leaseLabels({ subnet: { v4, v6 }, attrs: { publicIp, publicIpV6 } }: Lease): Labels {
  return {
    subnet: v4?.toString() ?? '',
    ipv6_subnet: v6?.toString() ?? '',
    public_ip: publicIp === 0 ? '' : formatIp4(publicIp),
    ipv6_public_ip: publicIpV6 ?? '',
  };
}

function interfaceLabels({ name, address, addressV6 }: ExternalInterface): Labels {
  return {
    interface: name,
    address: address === null ? '' : formatIp4(address),
    ipv6_address: addressV6 ?? '',
  };
}

function trafficFamilies({ trafficRules: rules }: DaemonState): Family[] {
  return [
    gauge(
      'flanneld_traffic_rules_in_place',
      'Whether the traffic rules were complete at the last look; missing where none are wanted.',
      one(rules?.manager == null ? null : rules.inPlace),
    ),
    {
      name: 'flanneld_traffic_rules_repairs_total',
      type: 'counter',
      help: 'How often changes of somebody to the traffic rules were undone.',
      samples: one(rules?.repairs ?? null),
    },
  ];
}

/** Under the names that every client library of Prometheus gives them. */
function processFamilies({ startedAt }: DaemonState): Family[] {
  const { user, system } = process.cpuUsage();
  const { rss, heapUsed, heapTotal } = process.memoryUsage();
  return [
    {
      name: 'process_cpu_seconds_total',
      type: 'counter',
      help: 'Processor time of this process, in the kernel and outside of it.',
      samples: one((user + system) / 1e6),
    },
    gauge('process_resident_memory_bytes', 'Resident memory.', one(rss)),
    gauge('process_start_time_seconds', 'When the process started.', one(startedAt / 1000)),
    gauge('process_open_fds', 'Open file descriptors.', one(readdirSync('/proc/self/fd').length)),
    gauge('nodejs_heap_size_used_bytes', 'Of the JavaScript heap, in use.', one(heapUsed)),
    gauge('nodejs_heap_size_total_bytes', 'The JavaScript heap.', one(heapTotal)),
  ];
}

function gauge(name: string, help: string, samples: Family['samples']): Family {
  return { name, type: 'gauge', help, samples };
}
