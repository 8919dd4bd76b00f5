/**
 * `npm run bench:kube`: a daemon in a cluster of 5,000 nodes, over a real kube-apiserver. How long it takes from its
 * start to a table with all of them, and how much memory it has then and after every node has changed. Each figure has a
 * limit, and the exit status says whether all are kept.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Cluster, NODES, PREFIX } from '../../test/kube/cluster.js';
import { eventually } from '../../test/lib/eventually.js';
import { findApiServer } from '../../test/lib/kube-apiserver.js';
import { PeerTable } from '../../test/lib/peer-table.js';
import type { Daemon } from '../daemon.js';
import { inLab, runInLab } from '../lab.js';
import { formatTable } from '../table.js';

const WRITERS = 16;
const PATIENCE_MS = 300_000;
const MOST_SECONDS = 5;
const MOST_MB = 120;

/** As many images as kubelet reports by default (--node-status-max-images): most of what a node weighs. */
const IMAGES = Array.from({ length: 50 }, (_, i) => ({
  names: [
    `registry.example.com/team/service-${i}@sha256:${'0123456789abcdef'.repeat(4)}`,
    `registry.example.com/team/service-${i}:v1.${i}.0`,
  ],
  sizeBytes: 100_000_000 + i,
}));

async function main(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: { nodes: { type: 'string', default: '5000' } } });
  const nodes = Number(values.nodes);
  if (!Number.isInteger(nodes) || nodes < 2 || nodes > 16_000)
    throw new Error('--nodes must be from 2 to 16000');
  if (!inLab()) {
    await findApiServer();
    return runInLab(process.execPath, [fileURLToPath(import.meta.url), ...args]);
  }
  const cluster = await Cluster.create(1, { Network: '10.192.0.0/10', Backend: { Type: 'udp' } });
  try {
    return await measure(cluster, nodes);
  } finally {
    await cluster.close();
  }
}

async function measure(cluster: Cluster, nodes: number): Promise<number> {
  await each(nodes - 1, (i) => addNode(cluster, i));
  const bytes = JSON.stringify(await cluster.server.get(`${NODES}/peer1`)).length;
  process.stdout.write(`${nodes} nodes of ${(bytes / 1024).toFixed(1)} KB\n`);

  const begun = performance.now();
  const daemon = await cluster.start(1);
  const table = new PeerTable(daemon);
  await eventually(() => table.rows().length === nodes - 1, PATIENCE_MS);
  const seconds = (performance.now() - begun) / 1000;
  const first = await usageOf(daemon);

  // Each node once: what kubelet reports of them changes nothing here.
  await each(nodes - 1, async (i) => {
    await cluster.annotate(`peer${i}`, { 'example.com/heartbeat': String(Date.now()) });
  });
  await cluster.annotate('peer1', { [`${PREFIX}public-ip`]: '192.168.77.99' });
  await daemon.logged(/Subnet added: 10\.193\.1\.0\/24 via 192\.168\.77\.99/, PATIENCE_MS);
  const later = await usageOf(daemon);

  const rows = [
    ['start to table', `${seconds.toFixed(2)} s`, `${MOST_SECONDS} s`],
    ['reading the nodes, of that', `${readingSeconds(daemon).toFixed(2)} s`, ''],
    ['its processor time till then', `${first.cpuSeconds.toFixed(2)} s`, ''],
    ['resident memory then', `${first.resident.toFixed(0)} MB`, `${MOST_MB} MB`],
    ['at most so far', `${first.peak.toFixed(0)} MB`, ''],
    [`after ${nodes} changes`, `${later.resident.toFixed(0)} MB`, `${MOST_MB} MB`],
    ['at most in all', `${later.peak.toFixed(0)} MB`, ''],
  ];
  process.stdout.write(`${formatTable(['figure', 'measured', 'limit'], rows)}\n`);
  const kept = seconds <= MOST_SECONDS && Math.max(first.resident, later.resident) <= MOST_MB;
  return kept ? 0 : 1;
}

async function addNode(cluster: Cluster, i: number): Promise<void> {
  const podCIDR = `10.${193 + (i >> 8)}.${i & 255}.0/24`;
  await cluster.server.create(NODES, {
    metadata: {
      name: `peer${i}`,
      annotations: {
        [`${PREFIX}kube-subnet-manager`]: 'true',
        [`${PREFIX}backend-type`]: '',
        [`${PREFIX}backend-data`]: 'null',
        [`${PREFIX}public-ip`]: `192.168.${78 + (i >> 8)}.${i & 255}`,
      },
    },
    spec: { podCIDR, podCIDRs: [podCIDR] },
    status: { images: IMAGES },
  });
}

/** Calls `action` with 1 to `count`, several at a time. */
async function each(count: number, action: (i: number) => Promise<void>): Promise<void> {
  let next = 1;
  const worker = async () => {
    while (next <= count) await action(next++);
  };
  await Promise.all(Array.from({ length: WRITERS }, worker));
}

/** From the beginning of the watch to the first line about a peer, by the daemon's log. */
function readingSeconds({ log }: Daemon): number {
  const [from = 0, to = 0] = [/Watching for new subnet leases/, /Subnet added/].map((words) => {
    const line = log.split('\n').find((text) => words.test(text)) ?? '';
    const [, hours, minutes, seconds] = /(\d\d):(\d\d):(\d\d\.\d+)/.exec(line) ?? [];
    return Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
  });
  return to - from;
}

interface Usage {
  /** MB. */
  readonly resident: number;
  readonly peak: number;
  readonly cpuSeconds: number;
}

async function usageOf(daemon: Daemon): Promise<Usage> {
  const stat = await readFile(`/proc/${daemon.process.pid ?? 0}/stat`, 'utf8');
  // proc_pid_stat(5): utime and stime are the 14th and 15th, the 12th and 13th behind the name; USER_HZ is 100.
  const [utime = 0, stime = 0] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13)
    .map(Number);
  const status = await readFile(`/proc/${daemon.process.pid ?? 0}/status`, 'utf8');
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024;
  return { resident: field('VmRSS'), peak: field('VmHWM'), cpuSeconds: (utime + stime) / 100 };
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 2;
}
