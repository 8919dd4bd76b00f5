/**
 * `npm run bench:memory`: what a daemon takes when nothing happens, in a network of 1,000 hosts over a real etcd, with the
 * health endpoint on. Both figures have a limit, and the exit status says whether they are kept.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { eventually } from '../../test/lib/eventually.js';
import { Etcd } from '../../test/lib/etcd.js';
import { TestNetwork } from '../../test/lib/network.js';
import type { Daemon } from '../daemon.js';
import { inLab, runInLab } from '../lab.js';
import { CpuMeter } from '../measure/cpu.js';
import { formatTable } from '../table.js';
import { GATEWAY } from '../topology.js';
import { LeaseWriter } from './cluster.js';

const PEERS = 1_000;
const PORT = 8081;
const SETTLE_MS = 30_000;
/** As often as Kubernetes asks and as Prometheus scrapes by default. */
const PROBE_MS = 10_000;
const SCRAPE_MS = 15_000;
const MOST_RESIDENT_MIB = 90;
const MOST_IDLE_PERCENT = 0.2;
const MIB = 1 << 20;

interface Footprint {
  readonly residentMib: number;
  readonly cpuPercent: number;
  readonly wakeups: number;
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { seconds: { type: 'string', default: '60' } } });
  const seconds = Number(values.seconds);
  if (!(seconds >= 1)) throw new Error('write --seconds=60');
  if (!inLab()) return runInLab(process.execPath, [fileURLToPath(import.meta.url), ...process.argv.slice(2)]);
  const network = await TestNetwork.create(1);
  const etcd = await Etcd.start({ address: GATEWAY });
  try {
    const writer = new LeaseWriter(etcd.endpoint);
    await writer.fill(PEERS);
    writer.close();
    const daemon = network.start(1, `--healthz-port=${PORT}`, `--etcd-endpoints=${etcd.endpoint}`);
    await eventually(async () => {
      if (!(await ask('/metrics')).includes(`\nflanneld_routes ${PEERS}\n`)) throw new Error('no table yet');
    }, 30_000);
    await delay(SETTLE_MS);
    const idle = await measure(daemon, seconds);
    const watched = await whileAsked(() => measure(daemon, seconds));
    const kept = idle.residentMib <= MOST_RESIDENT_MIB && watched.residentMib <= MOST_RESIDENT_MIB;
    const rows = [
      ['left alone', ...format(idle)],
      [`probed every ${PROBE_MS / 1000} s, scraped every ${SCRAPE_MS / 1000} s`, ...format(watched)],
      ['limit', `≤ ${MOST_RESIDENT_MIB} MiB`, `≤ ${MOST_IDLE_PERCENT} % when left alone`, ''],
    ];
    process.stdout.write(
      `${formatTable([`${PEERS} peers`, 'resident', 'of one processor', 'wake-ups a second'], rows)}\n`,
    );
    return kept && idle.cpuPercent <= MOST_IDLE_PERCENT ? 0 : 1;
  } finally {
    await network.close();
    await etcd.close();
  }
}

/** The most resident memory that is seen, and the processor time, of all threads. */
async function measure(daemon: Daemon, seconds: number): Promise<Footprint> {
  const pid = daemon.process.pid ?? -1;
  const meter = new CpuMeter([pid]);
  const switchesBefore = voluntarySwitches(pid);
  let resident = 0;
  for (let second = 0; second < seconds; second++) {
    await delay(1000);
    resident = Math.max(resident, Number(/^VmRSS:\s+(\d+) kB$/m.exec(statusOf(pid))?.[1]) * 1024);
  }
  const { forwarder, seconds: watched } = meter.stop();
  return {
    residentMib: resident / MIB,
    cpuPercent: ((forwarder ?? NaN) / watched) * 100,
    wakeups: (voluntarySwitches(pid) - switchesBefore) / watched,
  };
}

async function whileAsked<T>(work: () => Promise<T>): Promise<T> {
  const probe = setInterval(() => void ask('/healthz'), PROBE_MS);
  const scrape = setInterval(() => void ask('/metrics'), SCRAPE_MS);
  try {
    return await work();
  } finally {
    clearInterval(probe);
    clearInterval(scrape);
  }
}

async function ask(path: string): Promise<string> {
  return (await fetch(`http://192.168.77.1:${PORT}${path}`)).text();
}

/** Of the main thread: how often it has waited and was woken. */
function voluntarySwitches(pid: number): number {
  return Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(statusOf(pid))?.[1]);
}

function statusOf(pid: number): string {
  return readFileSync(`/proc/${pid}/status`, 'utf8');
}

function format({ residentMib, cpuPercent, wakeups }: Footprint): string[] {
  return [`${residentMib.toFixed(1)} MiB`, `${cpuPercent.toFixed(3)} %`, wakeups.toFixed(1)];
}

process.exitCode = await main();
