/**
 * `npm run test:soak`: two daemons under a thousand lease events a second and traffic, for as many minutes as asked
 * for. What they hold must not grow, nothing may be lost, and they have to keep up. See ../README.md.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Daemon } from '../../bench/daemon.js';
import { inLab, runInLab } from '../../bench/lab.js';
import { formatTable } from '../../bench/table.js';
import { compileProgram } from '../../bench/tools.js';
import { GATEWAY } from '../../bench/topology.js';
import { Dice } from '../lib/dice.js';
import { EtcdGateway } from '../lib/etcd-gateway.js';
import { Etcd } from '../lib/etcd.js';
import { eventually } from '../lib/eventually.js';
import { CONFIG, TestNetwork } from '../lib/network.js';
import { PeerTable, rowsFor, subnetEntry } from '../lib/peer-table.js';
import { Probe } from '../lib/probe.js';
import type { ProbeFigures } from '../lib/probe.js';
import { SoakChurn } from './churn.js';
import { holdingsOf, slopeOf, troughs } from './growth.js';
import type { Holdings, Slope } from './growth.js';

const PREFIX = '/coreos.com/network';
const SUBNETS = `${PREFIX}/subnets/`;
const EVENTS_PER_SECOND = 1000;
const PROBE_RATE = 1000;
/** Far below what the daemons can carry: a loss is a fault. */
const STREAM_BITS = '50M';
const STREAM_PORT = 7020;
/** An entry that changes its owner again and again, to see how far behind a daemon is. */
const MARKER = '10.244.255.0/24';
const SAMPLE_MS = 2_000;
const LOOK_MS = 20;
/** Caches, tables and the heap reach their size first: a fifth of the run, but so long at least. */
const WARM_UP_MS = 20_000;
const WARM_UP_SHARE = 0.2;
const MOST_GROWTH = 1 << 20; // bytes an hour
/** A heap breathes by megabytes in a minute, so a slope of 1 MiB an hour can only be seen in a run this long. */
const SLOPE_MINUTES = 20;
/** Collections come several times a minute: so that each of these has some. */
const TROUGHS = 24;
const MOST_RSS = 256 << 20;
const MOST_LAG_MS = 2_000;
const MIB = 1 << 20;

/** A daemon with what has been noted about it. */
interface Subject {
  readonly daemon: Daemon;
  readonly table: PeerTable;
  readonly samples: Holdings[];
  /** Milliseconds from a change in the store to the daemon's table. */
  readonly lags: number[];
}

interface Stream {
  /** What it has carried once it is over, in bits per second. */
  readonly rate: Promise<number>;
}

async function main(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: { minutes: { type: 'string', default: '1' }, seed: { type: 'string', default: '1' } },
  });
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new Error('--minutes must be a number above 0');
  await compileProgram('test/lib/probe.c');
  if (!inLab()) return runInLab(process.execPath, [fileURLToPath(import.meta.url), ...args]);
  const network = await TestNetwork.create(2);
  // Without its history being compacted, etcd would keep every event of the run.
  const etcd = await Etcd.start({
    address: GATEWAY,
    args: ['--auto-compaction-mode=periodic', '--auto-compaction-retention=1m'],
  });
  try {
    const subjects = await startDaemons(network, etcd);
    return await soak(
      subjects,
      new EtcdGateway([etcd.endpoint], { name: '', password: '' }),
      minutes,
      values.seed,
    );
  } finally {
    await network.stopAll();
    await etcd.close();
    await network.close();
  }
}

async function startDaemons(network: TestNetwork, etcd: Etcd): Promise<Subject[]> {
  await etcd.ctl('put', `${PREFIX}/config`, JSON.stringify(CONFIG));
  const daemons = await network.startAll(`--etcd-endpoints=${etcd.endpoint}`);
  return daemons.map((daemon) => ({ daemon, table: new PeerTable(daemon), samples: [], lags: [] }));
}

async function soak(
  subjects: readonly Subject[],
  store: EtcdGateway,
  minutes: number,
  seed: string,
): Promise<number> {
  const [a, b] = subjects.map(({ daemon }) => daemon);
  assert.ok(a && b);
  const keys = Array.from({ length: 230 }, (_, i) => `${SUBNETS}10.244.${i + 10}.0-24`).filter(
    (key) => !subjects.some(({ daemon }) => key.endsWith(`/${daemon.overlaySubnet.replace('/', '-')}`)),
  );
  const churn = new SoakChurn(store, keys, new Dice(seed), EVENTS_PER_SECOND);
  const [from, to] = [a, b].map((daemon) => ({ host: daemon.host, address: daemon.overlayAddress }));
  assert.ok(from && to);
  const probe = await Probe.start(from, to, PROBE_RATE);
  const stream = await startStream(a, b, minutes * 60);
  try {
    churn.start();
    const started = performance.now();
    await observe(subjects, store, started + minutes * 60_000);
    const elapsed = (performance.now() - started) / 1000;
    await churn.end();
    await eventually(async () => {
      const entries = (await store.list(SUBNETS)).map(({ key, value }) => subnetEntry(key, value));
      for (const { daemon, table } of subjects) {
        assert.deepEqual(table.rows(), rowsFor(daemon.host.address, entries), daemon.host.name);
      }
    });
    const figures = await probe.finish();
    const warm = started + Math.max(WARM_UP_MS, WARM_UP_SHARE * minutes * 60_000);
    print(report(subjects, warm, figures, churn.events / elapsed, await stream.rate));
    judge(subjects, warm, figures, churn.events / elapsed, minutes);
    return 0;
  } finally {
    await churn.end();
    await probe.kill();
  }
}

/** Starts a TCP stream of a fixed rate. */
async function startStream(from: Daemon, to: Daemon, seconds: number): Promise<Stream> {
  const server = to.host.spawn('iperf3', ['-s', '-1', '-p', `${STREAM_PORT}`, '-B', to.overlayAddress], {
    stdio: 'ignore',
  });
  await once(server, 'spawn');
  await eventually(() => to.host.exec('sh', '-c', `ss -Hltn sport = :${STREAM_PORT} | grep -q .`));
  const ended = from.host.exec(
    'iperf3',
    ...['-c', to.overlayAddress, '-p', `${STREAM_PORT}`, '-b', STREAM_BITS, '-t', seconds.toFixed(0), '-J'],
  );
  const rate = ended.then(({ stdout }) => {
    const { end } = JSON.parse(stdout) as { end: { sum_received: { bits_per_second: number } } };
    return end.sum_received.bits_per_second;
  });
  // Whoever awaits it is told; until then a failure is no unhandled one.
  rate.catch(() => undefined);
  return { rate };
}

/** Samples the daemons, and measures again and again how long a change takes to reach them, until `end`. */
async function observe(subjects: readonly Subject[], store: EtcdGateway, end: number): Promise<void> {
  const key = `${SUBNETS}${MARKER.replace('/', '-')}`;
  for (let turn = 0; performance.now() < end; turn++) {
    for (const { daemon, samples } of subjects) samples.push(holdingsOf(daemon.process.pid ?? 0));
    const publicIp = `172.16.${(turn >> 8) & 255}.${turn & 255}`;
    const put = performance.now();
    await store.put(key, `{"PublicIP":"${publicIp}","PublicIPv6":null}`);
    const waiting = new Set(subjects);
    while (waiting.size > 0 || performance.now() < put + SAMPLE_MS) {
      for (const { table } of subjects) table.digest();
      for (const subject of waiting) {
        if (subject.table.via(MARKER) !== publicIp) continue;
        subject.lags.push(performance.now() - put);
        waiting.delete(subject);
      }
      if (performance.now() > put + 10 * MOST_LAG_MS)
        throw new Error('a daemon does not follow the store any more');
      await delay(LOOK_MS);
    }
  }
}

/** @param warm when the warm-up was over */
function judge(
  subjects: readonly Subject[],
  warm: number,
  figures: readonly ProbeFigures[],
  eventsPerSecond: number,
  minutes: number,
): void {
  assert.ok(eventsPerSecond > 0.9 * EVENTS_PER_SECOND, `only ${eventsPerSecond.toFixed(0)} events a second`);
  for (const { lost, duplicated } of figures)
    assert.deepEqual({ lost, duplicated }, { lost: 0, duplicated: 0 });
  for (const { daemon, samples, lags } of subjects) {
    const { name } = daemon.host;
    assert.equal(daemon.exitCode, null, `${name} has ended:\n${daemon.log.slice(-2000)}`);
    assert.ok(Math.max(...lags) < MOST_LAG_MS, `${name} was ${Math.max(...lags).toFixed(0)} ms behind`);
    const later = samples.filter(({ at }) => at >= warm);
    const [first, last] = [later[0], later.at(-1)];
    assert.ok(first && last, 'the run is too short to say anything: give it more --minutes');
    assert.equal(last.threads, first.threads, `threads of ${name}`);
    assert.ok(
      last.descriptors <= first.descriptors,
      `${name}: ${first.descriptors} → ${last.descriptors} descriptors`,
    );
    assert.ok(last.rss < MOST_RSS, `${name} has ${(last.rss / MIB).toFixed(0)} MiB`);
    if (minutes < SLOPE_MINUTES) continue;
    const { perHour, uncertainty } = rssSlope(later);
    assert.ok(
      perHour - uncertainty < MOST_GROWTH,
      `${name} grows by ${(perHour / MIB).toFixed(1)} MiB an hour`,
    );
  }
}

function report(
  subjects: readonly Subject[],
  warm: number,
  figures: readonly ProbeFigures[],
  eventsPerSecond: number,
  streamBits: number,
): string {
  const rows = subjects.map(({ daemon, samples, lags }) => {
    const later = samples.filter(({ at }) => at >= warm);
    const range = (of: (holdings: Holdings) => number) => {
      const values = later.map(of);
      return `${Math.min(...values).toFixed(0)}–${Math.max(...values).toFixed(0)}`;
    };
    const { perHour, uncertainty } = rssSlope(later);
    const sorted = [...lags].sort((x, y) => x - y);
    return [
      daemon.host.name,
      range(({ rss }) => rss / MIB),
      `${(perHour / MIB).toFixed(1)} ± ${(uncertainty / MIB).toFixed(1)}`,
      range(({ descriptors }) => descriptors),
      range(({ threads }) => threads),
      `${(sorted[sorted.length >> 1] ?? 0).toFixed(0)}, ${(sorted.at(-1) ?? 0).toFixed(0)}`,
    ];
  });
  const head = ['daemon', 'RSS, MiB', 'slope, MiB/h', 'descriptors', 'threads', 'lag, ms (median, most)'];
  const lines = figures.map(
    ({ sent, lost, duplicated, reordered, gapMs }, i) =>
      `probe from host ${i + 1} to host ${2 - i}: ${sent} sent, ${lost} lost, ${duplicated} duplicated, ` +
      `${reordered} reordered, longest gap ${gapMs.toFixed(1)} ms`,
  );
  const rates = `${eventsPerSecond.toFixed(0)} lease events a second; TCP at ${(streamBits / 1e6).toFixed(0)} Mbit/s`;
  return [formatTable(head, rows), rates, ...lines, ''].join('\n');
}

/** Of what is left after collections: the waves in between would hide it. */
function rssSlope(samples: readonly Holdings[]): Slope {
  const values = samples.map(({ at, rss }) => [at, rss] as const);
  const lasted = (values.at(-1)?.[0] ?? 0) - (values[0]?.[0] ?? 0);
  return slopeOf(troughs(values, Math.max(SAMPLE_MS, lasted / TROUGHS)));
}

function print(text: string): void {
  process.stdout.write(text);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`soak: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
