/**
 * `npm run demo`: three hosts, three daemons, every pair pinged and measured over the overlay. Exits with 0 only if
 * every pair works. `--store=etcd` keeps the leases in a real etcd instead of a directory.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Etcd } from '../test/lib/etcd.js';
import { Daemon } from './daemon.js';
import { inLab, runInLab } from './lab.js';
import { ping, tcpStream } from './probes.js';
import { formatTable } from './table.js';
import { GATEWAY, Topology } from './topology.js';

const HOSTS = 3;
const PINGS = 5;
const STREAM_SECONDS = 1;
const CONFIG = JSON.stringify({ Network: '10.244.0.0/16', Backend: { Type: 'udp' } });

interface PairResult {
  readonly pair: string;
  /** Milliseconds, or null when no echo was answered. */
  readonly rtt: number | null;
  readonly lost: number;
  /** Bits per second, or null when the stream failed. */
  readonly rate: number | null;
  readonly problem: string | null;
}

/** A store for the daemons: the flags that lead to it, and its end. */
interface Store {
  readonly flags: readonly string[];
  close(): Promise<void>;
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { store: { type: 'string', default: 'directory' } } });
  if (values.store !== 'directory' && values.store !== 'etcd') {
    process.stderr.write(`demo: unknown store ${values.store}; write --store=directory or --store=etcd\n`);
    return 2;
  }
  if (!inLab()) {
    return runInLab(process.execPath, [fileURLToPath(import.meta.url), ...process.argv.slice(2)]);
  }
  const folder = await mkdtemp(join(tmpdir(), 'flannel-demo-'));
  try {
    return await demo(folder, values.store);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function demo(folder: string, storeName: 'directory' | 'etcd'): Promise<number> {
  step(`making ${HOSTS} hosts in network namespaces`);
  const topology = await Topology.create(HOSTS);
  step(`starting ${HOSTS} flanneld, leases in ${storeName === 'etcd' ? 'etcd' : 'a directory'}`);
  const store = await openStore(folder, storeName);
  const daemons: Daemon[] = [];
  try {
    for (const host of topology.hosts) {
      daemons.push(
        Daemon.start(host, join(folder, `${host.name}.env`), [
          ...store.flags,
          '--iptables-forward-rules=false',
        ]),
      );
    }
    for (const daemon of daemons) {
      stopIfAsked();
      await daemon.ready(HOSTS - 1);
      step(`${daemon.host.name} (${daemon.host.address}) has ${daemon.subnetEnv('FLANNEL_SUBNET')}`);
    }
    const results = await measurePairs(daemons);
    step('stopping the daemons');
    const statuses = await Promise.all(daemons.map((daemon) => daemon.stop()));
    report(results, daemons);
    return results.every(({ problem }) => problem === null) && statuses.every((status) => status === 0)
      ? 0
      : 1;
  } finally {
    await Promise.all(daemons.map((daemon) => daemon.stop()));
    await store.close();
  }
}

async function openStore(folder: string, name: 'directory' | 'etcd'): Promise<Store> {
  if (name === 'etcd') {
    const etcd = await Etcd.start({ address: GATEWAY });
    await etcd.ctl('put', '/coreos.com/network/config', CONFIG);
    return { flags: [`--etcd-endpoints=${etcd.endpoint}`], close: () => etcd.close() };
  }
  const dir = join(folder, 'store');
  await mkdir(dir);
  await writeFile(join(dir, 'config'), CONFIG);
  return { flags: [`--subnet-dir=${dir}`], close: () => Promise.resolve() };
}

async function measurePairs(daemons: readonly Daemon[]): Promise<PairResult[]> {
  const results: PairResult[] = [];
  for (const from of daemons) {
    for (const to of daemons.filter((other) => other !== from)) {
      stopIfAsked();
      const result = await measurePair(from, to);
      step(`${result.pair}: ${result.problem ?? 'works'}`);
      results.push(result);
    }
  }
  return results;
}

async function measurePair(from: Daemon, to: Daemon): Promise<PairResult> {
  const pair = `${from.host.name} → ${to.host.name}`;
  let rtt: number | null = null;
  let lost = PINGS;
  try {
    const times = (await ping(from.host, to.overlayAddress, PINGS)).filter((time) => time !== null);
    lost = PINGS - times.length;
    // The median: the first one also pays for a process that was asleep.
    rtt = times.sort((a, b) => a - b)[times.length >> 1] ?? null;
    if (lost > 0) return { pair, rtt, lost, rate: null, problem: `${lost} of ${PINGS} pings lost` };
    const stream = await tcpStream(from.host, to.host, to.overlayAddress, { seconds: STREAM_SECONDS });
    const rate = (stream.received.bytes * 8) / stream.received.seconds;
    return { pair, rtt, lost, rate, problem: null };
  } catch (error) {
    return { pair, rtt, lost, rate: null, problem: error instanceof Error ? error.message : String(error) };
  }
}

function report(results: readonly PairResult[], daemons: readonly Daemon[]): void {
  const pairs = results.map(({ pair, rtt, lost, rate, problem }) => [
    pair,
    rtt === null ? '–' : rtt.toFixed(3),
    String(lost),
    rate === null ? '–' : (rate / 1e9).toFixed(2),
    problem === null ? 'ok' : 'FAILED',
  ]);
  const counters = daemons.map((daemon) => {
    const counts = daemon.counters();
    const of = (name: string) => String(counts.get(name) ?? '–');
    const drops = [...counts].filter(
      ([name, count]) => count > 0 && !/_in$|_out$|bytes|calls|blocked|icmp/.test(name),
    );
    return [
      daemon.host.name,
      of('encap_packets_in'),
      of('encap_packets_out'),
      of('decap_packets_in'),
      of('decap_packets_out'),
      drops.map(([name, count]) => `${name} ${count}`).join(', ') || 'none',
    ];
  });
  print('');
  print(formatTable(['pair', 'ping ms', 'lost', 'TCP Gbit/s', 'result'], pairs));
  print('');
  print(formatTable(['counters', 'encap in', 'encap out', 'decap in', 'decap out', 'drops'], counters));
  print('');
  print(
    'TCP payload was hashed at both ends. encap_bad_version counts the IPv6 chatter of the kernel itself.',
  );
}

let asked: NodeJS.Signals | null = null;

/** Between two steps: where a signal came, the usual way out cleans up. */
function stopIfAsked(): void {
  if (asked !== null) throw new Stopped(asked);
}

class Stopped extends Error {
  constructor(signal: NodeJS.Signals) {
    super(`stopped by ${signal}`);
  }
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => (asked = signal));
// Nobody reads any more (`npm run demo | head`): end as after a signal, not in the middle of things.
process.stdout.on('error', () => (asked = 'SIGPIPE'));

const started = performance.now();

function step(text: string): void {
  print(`[${((performance.now() - started) / 1000).toFixed(1).padStart(5)} s] ${text}`);
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
