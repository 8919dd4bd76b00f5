/**
 * `npm run bench:store`: how fast leases get from a real etcd into the forwarding table, in a network of 65,536. Each
 * figure has a limit, and the exit status says whether all are kept. See README.md.
 */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { open, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { parseNetworkConfig } from '../../src/config.js';
import { chooseSubnet } from '../../src/lease/allocate.js';
import { v4SubnetsOf } from '../../src/lease/lease.js';
import { Etcd } from '../../test/lib/etcd.js';
import { inLab, runInLab } from '../lab.js';
import { quantile } from '../measure/statistics.js';
import { describeMachine } from '../report/machine.js';
import { formatNumber } from '../report/metrics.js';
import { formatTable } from '../table.js';
import { CONFIG, LEASES, LeaseWriter, nthLease } from './cluster.js';
import { now } from './protocol.js';
import type { EventsReport, SubjectReport, SyncReport } from './protocol.js';

/** Hosts in the network whose own subnet is not moved about. */
const OWN = LEASES - 1;
const SYNC_ROUNDS = 3;
const TTL_SAMPLE = 2_000;
const SINGLE_EVENTS = 500;
const SINGLE_GAP_MS = 25;
const BURST_SECONDS = 10;
const BURST_RATE = 1_000;
/** The events of one tick of the clock that sends them. */
const BURST_TICK_MS = 5;
const TAKEN = 60_000;
const ALLOCATIONS = 100;

/** One figure, and the limit that it has to keep. */
interface Figure {
  readonly name: string;
  readonly unit: string;
  readonly value: number;
  readonly limit: number | null;
  readonly atLeast: boolean;
}

const figures: Figure[] = [];
const samples: Record<string, readonly number[]> = {};

function figure(
  name: string,
  unit: string,
  value: number,
  limit: number | null = null,
  atLeast = false,
): void {
  figures.push({ name, unit, value, limit, atLeast });
}

function isKept({ value, limit, atLeast }: Figure): boolean {
  return limit === null || (atLeast ? value >= limit : value <= limit);
}

/** The measured process. */
class Subject {
  private constructor(
    private readonly child: ChildProcess,
    readonly synced: SyncReport,
  ) {}

  static async start(endpoint: string): Promise<Subject> {
    const program = fileURLToPath(new URL('subject.js', import.meta.url));
    // The log is written, because writing it is a part of the work, but it goes nowhere.
    const log = await open('/dev/null', 'w');
    const child = fork(program, [endpoint, String(OWN)], { stdio: ['ignore', 'ignore', log.fd, 'ipc'] });
    const report = await nextReport(child);
    await log.close();
    if (report.kind !== 'synced') throw new Error('the measured process began with something else');
    return new Subject(child, report);
  }

  async events(): Promise<EventsReport> {
    this.child.send('events');
    const report = await nextReport(this.child);
    if (report.kind !== 'events') throw new Error('the measured process said something else');
    return report;
  }

  async stop(): Promise<void> {
    const exited = once(this.child, 'exit');
    this.child.send('stop');
    await exited;
  }
}

async function nextReport(child: ChildProcess): Promise<SubjectReport> {
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`the measured process ended with ${String(code)}`);
  });
  const [report] = (await Promise.race([once(child, 'message'), ended])) as [SubjectReport];
  return report;
}

/** From nothing to a forwarding table of the whole network. */
async function sync(etcd: Etcd, writer: LeaseWriter): Promise<void> {
  const times: number[] = [];
  const acquireTimes: number[] = [];
  let requests = 0;
  for (let round = 0; round < SYNC_ROUNDS; round++) {
    const before = await writer.requestsServed();
    const subject = await Subject.start(etcd.endpoint);
    // Acquiring the lease is counted as well: it reads the leases, too, and renews the own one.
    requests = Math.max(requests, (await writer.requestsServed()) - before);
    const { ms, acquireMs, leases, peers } = subject.synced;
    if (leases !== LEASES || peers !== LEASES - 1)
      throw new Error(`${leases} leases and ${peers} peers arrived`);
    times.push(ms);
    acquireTimes.push(acquireMs);
    await subject.stop();
  }
  const ttlMs = await writer.timeTtlRequests(TTL_SAMPLE);
  samples.sync = times;
  figure('sync: watch begun to 65,535 routes in use', 'ms', quantile(times, 0.5), 3_000);
  figure('sync: acquiring the own lease before', 'ms', quantile(acquireTimes, 0.5));
  figure('sync: requests, acquiring included', '', requests);
  figure('sync: fewer requests than one TTL a lease', '×', (LEASES + 1) / requests, 20, true);
  figure('sync: those TTL requests would take', 'ms', ttlMs * LEASES);
}

/** Single events at random moments: how old an event is when packets go by it. */
async function latency(subject: Subject, writer: LeaseWriter): Promise<void> {
  await subject.events();
  const acknowledged = new Map<number, number>();
  for (let i = 0; i < SINGLE_EVENTS; i++) {
    const publicIp = 0xc000_0000 + i;
    await writer.move(i * 97, publicIp);
    acknowledged.set(publicIp, now());
    await delay(SINGLE_GAP_MS * (0.5 + Math.random()));
  }
  const { times, tables, tableMs } = await everything(subject, SINGLE_EVENTS);
  const fromWatch = times.map(({ arrived, inTable }) => inTable - arrived);
  const fromStore = times.map(({ publicIp, inTable }) => inTable - (acknowledged.get(publicIp) ?? NaN));
  samples['event from the watch'] = fromWatch;
  samples['event from the store'] = fromStore;
  figure('event: arrived to in use, p50', 'ms', quantile(fromWatch, 0.5));
  figure('event: arrived to in use, p99', 'ms', quantile(fromWatch, 0.99), 5);
  figure('event: acknowledged by etcd to in use, p50', 'ms', quantile(fromStore, 0.5));
  figure('event: acknowledged by etcd to in use, p99', 'ms', quantile(fromStore, 0.99));
  figure('event: making the table, mean', 'ms', tableMs / tables);
}

/** Events at a steady rate, sent whether or not the former ones have arrived. */
async function sustained(subject: Subject, writer: LeaseWriter): Promise<void> {
  await subject.events();
  const acknowledged = new Map<number, number>();
  const begun = now();
  const total = BURST_SECONDS * BURST_RATE;
  const writes: Promise<void>[] = [];
  for (let sent = 0; sent < total;) {
    const due = Math.min(total, Math.ceil(((now() - begun) * BURST_RATE) / 1000));
    for (; sent < due; sent++) {
      const publicIp = 0xc100_0000 + sent;
      writes.push(
        writer.move((sent * 31) % OWN, publicIp).then(() => {
          acknowledged.set(publicIp, now());
        }),
      );
    }
    await delay(BURST_TICK_MS);
  }
  await Promise.all(writes);
  const lastAcknowledged = Math.max(...acknowledged.values());
  const { times, tables, tableMs } = await everything(subject, total);
  const ages = times
    .map(({ publicIp, inTable }) => ({ publicIp, age: inTable - (acknowledged.get(publicIp) ?? NaN) }))
    .sort((a, b) => a.publicIp - b.publicIp)
    .map(({ age }) => age);
  const seconds = (lastAcknowledged - begun) / 1000;
  const late = times.filter(({ inTable }) => inTable > lastAcknowledged).length;
  samples['sustained events, every 10th'] = ages.filter((_, i) => i % 10 === 0);
  figure('sustained: events a second, acknowledged by etcd', '', total / seconds, BURST_RATE * 0.98, true);
  figure('sustained: for', 's', seconds, BURST_SECONDS, true);
  figure('sustained: age in use, median of the first second', 'ms', quantile(ages.slice(0, BURST_RATE), 0.5));
  figure(
    'sustained: age in use, median of the last second',
    'ms',
    quantile(ages.slice(-BURST_RATE), 0.5),
    50,
  );
  figure('sustained: age in use, p99', 'ms', quantile(ages, 0.99));
  figure('sustained: lag at the end', 'ms', Math.max(...times.map((t) => t.inTable)) - lastAcknowledged, 100);
  figure('sustained: events not in use when the last was written', '', late);
  figure('sustained: events a table', '', total / tables);
  figure('sustained: time spent on tables', '%', (tableMs / (seconds * 1000)) * 100);
}

/** The times of `count` events, which may still be on their way. */
async function everything(subject: Subject, count: number): Promise<EventsReport> {
  const times: EventsReport['times'][number][] = [];
  let tables = 0;
  let tableMs = 0;
  const deadline = now() + 30_000;
  while (times.length < count) {
    if (now() > deadline) throw new Error(`${count - times.length} of ${count} events never arrived`);
    await delay(100);
    const report = await subject.events();
    times.push(...report.times);
    tables += report.tables;
    tableMs += report.tableMs;
  }
  return { kind: 'events', times, tables, tableMs };
}

/** A free subnet among 60,000 taken ones. */
function allocation(): void {
  const config = parseNetworkConfig(CONFIG);
  const taken = v4SubnetsOf(Array.from({ length: LEASES }, (_, n) => nthLease(n).subnet))
    .map((cidr) => ({ cidr, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .slice(0, TAKEN)
    .map(({ cidr }) => cidr);
  const times: number[] = [];
  for (let i = 0; i < ALLOCATIONS; i++) {
    const started = performance.now();
    chooseSubnet(config, taken, Math.random);
    times.push(performance.now() - started);
  }
  samples.allocation = times;
  figure('allocation: one of 65,536 subnets, 60,000 taken, median', 'ms', quantile(times, 0.5), 10);
  // A collection of garbage falls into some of them, and the first runs before the code is compiled.
  figure('allocation: the same, slowest of 100', 'ms', Math.max(...times));
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { json: { type: 'string' } } });
  if (!inLab()) {
    return runInLab(process.execPath, [fileURLToPath(import.meta.url), ...process.argv.slice(2)]);
  }
  const date = new Date();
  const etcd = await Etcd.start();
  const writer = new LeaseWriter(etcd.endpoint);
  try {
    say(`writing ${LEASES} leases`);
    await writer.fill();
    say('synchronising');
    await sync(etcd, writer);
    const subject = await Subject.start(etcd.endpoint);
    try {
      say(`${SINGLE_EVENTS} single events`);
      await latency(subject, writer);
      say(`${BURST_RATE} events a second for ${BURST_SECONDS} s`);
      await sustained(subject, writer);
    } finally {
      await subject.stop();
    }
    say('allocating');
    allocation();
  } finally {
    writer.close();
    await etcd.close();
  }
  const result = { format: 1, started: date.toISOString(), machine: describeMachine(), figures, samples };
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(result, null, 1)}\n`);
  process.stdout.write(`${formatFigures()}\n`);
  return figures.every(isKept) ? 0 : 1;
}

function formatFigures(): string {
  const rows = figures.map((each) => {
    const { name, unit, value, limit, atLeast } = each;
    const bound = limit === null ? '' : `${atLeast ? '≥' : '≤'} ${formatNumber(limit)} ${unit}`;
    return [name, `${formatNumber(value)} ${unit}`, bound, limit === null ? '' : isKept(each) ? 'yes' : 'NO'];
  });
  return formatTable(['', 'measured', 'limit', 'kept'], rows);
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

process.exitCode = await main();
