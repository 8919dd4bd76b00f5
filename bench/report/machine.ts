/** What a result was measured on, and of what. */
import { execFileSync } from 'node:child_process';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { readSysctlText } from '../../src/sysctl.js';
import { ROOT } from '../tools.js';

export interface Machine {
  /** Null outside a git checkout. */
  readonly commit: string | null;
  /** True when files differ from the commit. */
  readonly modified: boolean;
  readonly kernel: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly architecture: string;
  /** What TCP streams are sent with, since it decides how much of one is on its way; null where it cannot be read. */
  readonly congestionControl: string | null;
  /** By name; null for what is not installed. */
  readonly versions: Readonly<Record<string, string | null>>;
}

export function describeMachine(): Machine {
  return {
    commit: firstLineOf('git', ['-C', ROOT, 'rev-parse', 'HEAD']),
    modified: firstLineOf('git', ['-C', ROOT, 'status', '--porcelain', '--untracked-files=no']) !== null,
    kernel: release(),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    architecture: process.arch,
    // The hosts' network namespaces inherit it.
    congestionControl: readSysctlText('net/ipv4/tcp_congestion_control'),
    versions: {
      node: process.version,
      iperf3: firstLineOf('iperf3', ['--version']),
      iproute2: firstLineOf('ip', ['-V']),
      ethtool: firstLineOf('ethtool', ['--version']),
    },
  };
}

/** Null when the command fails or says nothing. */
function firstLineOf(command: string, args: readonly string[]): string | null {
  try {
    const text = execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const [line = ''] = text.split('\n');
    return line === '' ? null : line;
  } catch {
    return null;
  }
}
