import { readdirSync, readFileSync } from 'node:fs';

const PF_EXITING = 0x4; // linux/sched.h

/** How many threads this process has. One that was joined may stand in /proc for a moment more: it does not count. */
export function liveThreads(): number {
  return readdirSync('/proc/self/task').filter(isAlive).length;
}

function isAlive(thread: string): boolean {
  try {
    const stat = readFileSync(`/proc/self/task/${thread}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[6]) & PF_EXITING) === 0; // flags of proc(5)
  } catch {
    return false;
  }
}
