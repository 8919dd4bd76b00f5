/** What the kernel says of the threads of a process. */
import { readdirSync, readFileSync } from 'node:fs';

const SETS = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'] as const;

export interface ThreadStatus {
  readonly name: string;
  /** By the names of /proc/<pid>/status; bit n stands for capability n. */
  readonly capabilities: Readonly<Record<(typeof SETS)[number], bigint>>;
  readonly noNewPrivs: boolean;
  /** Whether a seccomp filter is installed. */
  readonly filtered: boolean;
}

/** Of every thread of process `pid`. */
export function threadsOf(pid: number): ThreadStatus[] {
  const folder = `/proc/${pid}/task`;
  return readdirSync(folder).map((tid) => parse(readFileSync(`${folder}/${tid}/status`, 'utf8')));
}

function parse(text: string): ThreadStatus {
  const field = (name: string) => {
    const [, value] = new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(text) ?? [];
    if (value === undefined) throw new Error(`no ${name} in ${text}`);
    return value;
  };
  const sets = SETS.map((name) => [name, BigInt(`0x${field(name)}`)]);
  return {
    name: field('Name'),
    capabilities: Object.fromEntries(sets) as ThreadStatus['capabilities'],
    noNewPrivs: field('NoNewPrivs') === '1',
    filtered: field('Seccomp') === '2',
  };
}
