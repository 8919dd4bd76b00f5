import { readFileSync } from 'node:fs';
import type { Daemon } from '../../bench/daemon.js';
import { eventually } from './eventually.js';

/**
 * eventually() for what daemons promise to do within `ms` milliseconds. The time for which they, or this process that
 * looks, waited for a processor does not count: on a busy machine that is no fault of theirs.
 */
export async function within<T>(
  ms: number,
  daemons: readonly Daemon[],
  attempt: () => T | Promise<T>,
): Promise<Exclude<T, false>> {
  const pids = [process.pid, ...daemons.map((daemon) => daemon.process.pid ?? 0)];
  const before = pids.map(waitedMs);
  const start = performance.now();
  // One that has ended meanwhile tells nothing any more.
  const waited = () => pids.reduce((sum, pid, i) => sum + Math.max(0, waitedMs(pid) - (before[i] ?? 0)), 0);
  return eventually(attempt, () => performance.now() - start - waited() > ms);
}

/** How long the main thread of a process has been ready to run and did not: Documentation/scheduler/sched-stats.rst. */
function waitedMs(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6;
  } catch {
    return 0; // It has ended, or this kernel does not count.
  }
}
