/** Processor time: of the forwarders' threads, of the whole machine, of everybody else. All from /proc. */
import { readFileSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { MachineFigures } from './disturbance.js';

/** USER_HZ, in which /proc counts; 100 on every architecture that Node.js runs on. */
const TICKS_PER_SECOND = 100;
const KTHREADD = 2;

/** Processor time and machine figures of one sample. */
export interface CpuFigures {
  /** Seconds of wall time that were watched. */
  readonly seconds: number;
  /** Processor seconds of all forwarder threads, of all hosts; null where the kernel forwards. */
  readonly forwarder: number | null;
  /** Processor seconds of everything, the idle spinners left out. */
  readonly machineSeconds: number;
  readonly machine: MachineFigures;
}

/** Watches from its creation to stop(). */
export class CpuMeter {
  private readonly start: Snapshot;

  /**
   * @param forwarders process ids; their children count as well. Null where the kernel forwards.
   * @param spinners process ids of the benchmark's idle spinners, which are no load
   */
  constructor(
    private readonly forwarders: readonly number[] | null,
    private readonly spinners: readonly number[] = [],
  ) {
    this.start = takeSnapshot(forwarders ?? [], spinners);
  }

  stop(): CpuFigures {
    const { start } = this;
    const end = takeSnapshot(this.forwarders ?? [], this.spinners);
    const seconds = end.monotonic - start.monotonic;
    const spun = used(start.spinnerThreads, end.spinnerThreads);
    const total = end.total - start.total;
    const busy = Math.max(0, end.busy - start.busy - spun * TICKS_PER_SECOND);
    const share = (ticks: number) => (total > 0 ? Math.max(0, ticks) / total : 0);
    return {
      seconds,
      forwarder: this.forwarders === null ? null : used(start.forwarderThreads, end.forwarderThreads),
      machineSeconds: busy / TICKS_PER_SECOND,
      machine: {
        cpu: share(busy),
        steal: share(end.steal - start.steal),
        foreign: Math.max(0, end.foreign - start.foreign) / (seconds * availableParallelism()),
        clockJump: end.wall - start.wall - seconds,
      },
    };
  }
}

interface Snapshot {
  /** Seconds. */
  readonly monotonic: number;
  readonly wall: number;
  /** Ticks of all processors. */
  readonly total: number;
  readonly busy: number;
  readonly steal: number;
  /** Seconds. */
  readonly foreign: number;
  /** Nanoseconds by thread. */
  readonly forwarderThreads: ReadonlyMap<number, number>;
  readonly spinnerThreads: ReadonlyMap<number, number>;
}

function takeSnapshot(forwarders: readonly number[], spinners: readonly number[]): Snapshot {
  const table = readProcesses();
  return {
    foreign: foreignSeconds(table, process.pid),
    forwarderThreads: threadTimes(withDescendants(table, forwarders)),
    spinnerThreads: threadTimes(spinners),
    ...readMachine(readFileSync('/proc/stat', 'utf8')),
    wall: Date.now() / 1000,
    monotonic: performance.now() / 1000,
  };
}

/** Seconds that the threads ran between two snapshots. One that has ended meanwhile is counted up to the first. */
function used(start: ReadonlyMap<number, number>, end: ReadonlyMap<number, number>): number {
  let nanoseconds = 0;
  for (const [thread, time] of end) nanoseconds += time - (start.get(thread) ?? 0);
  return nanoseconds / 1e9;
}

/** Nanoseconds on a processor by thread id (proc(5), schedstat): exact, where ticks are a hundredth of a second. */
function threadTimes(pids: Iterable<number>): Map<number, number> {
  const times = new Map<number, number>();
  for (const pid of pids) {
    for (const thread of listOrNone(`/proc/${pid}/task`)) {
      const text = readOrNone(`/proc/${pid}/task/${thread}/schedstat`);
      if (text !== null) times.set(Number(thread), Number(text.split(' ')[0]));
    }
  }
  return times;
}

/** Reads the first line of /proc/stat: ticks of all processors together. */
export function readMachine(stat: string): { total: number; busy: number; steal: number } {
  const fields = (/^cpu +(.*)$/m.exec(stat)?.[1] ?? '').split(' ').map(Number);
  // user nice system idle iowait irq softirq steal; guest time is part of user time.
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = fields;
  const busy = user + nice + system + irq + softirq;
  return { total: busy + idle + iowait + steal, busy, steal };
}

/** A process as /proc shows it. */
export interface ProcessTimes {
  readonly pid: number;
  readonly parent: number;
  /** Ticks, with those of its children that have ended. */
  readonly ticks: number;
}

/** Reads /proc/PID/stat; null for text of another form. */
export function parseProcessStat(text: string): ProcessTimes | null {
  // The command's name stands in parentheses and may hold anything, even a parenthesis.
  const end = text.lastIndexOf(')');
  const fields = text.slice(end + 2).split(' ');
  if (end < 0 || fields.length < 15) return null;
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return { pid: parseInt(text, 10), parent: Number(fields[1]), ticks };
}

/**
 * Seconds used by processes that are neither this one, nor below it, nor threads of the kernel. A process that
 * ends hands its time to its parent, so the sum keeps it; only one that nobody waits for is lost.
 */
export function foreignSeconds(table: readonly ProcessTimes[], self: number): number {
  const own = withDescendants(table, [self, KTHREADD]);
  let ticks = 0;
  for (const process of table) if (!own.has(process.pid)) ticks += process.ticks;
  return ticks / TICKS_PER_SECOND;
}

/** These processes and all below them. */
export function withDescendants(table: readonly ProcessTimes[], roots: readonly number[]): Set<number> {
  const children = new Map<number, number[]>();
  for (const { pid, parent } of table) {
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [pid]);
    else siblings.push(pid);
  }
  const found = new Set(roots);
  for (const pid of found) for (const child of children.get(pid) ?? []) found.add(child);
  return found;
}

function readProcesses(): ProcessTimes[] {
  const processes: ProcessTimes[] = [];
  for (const name of listOrNone('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const text = readOrNone(`/proc/${name}/stat`);
    const parsed = text === null ? null : parseProcessStat(text);
    if (parsed !== null) processes.push(parsed);
  }
  return processes;
}

/** A process may end between two looks at it. */
function readOrNone(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

function listOrNone(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
