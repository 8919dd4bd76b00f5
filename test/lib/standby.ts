import { fileURLToPath } from 'node:url';
import { RunningTool } from '../../bench/tools.js';
import type { Host } from '../../bench/topology.js';

const STANDBY = fileURLToPath(new URL('../../../build/Release/flannel-standby', import.meta.url));

/** Starts flannel-standby on a host; resolves once it stands by for the flanneld at `controlSocket`. */
export function startStandby(host: Host, controlSocket: string): Promise<RunningTool> {
  // It tells what it does on standard error.
  const command = 'exec "$1" "$2" 2>&1';
  return RunningTool.start(host, 'sh', ['-c', command, 'sh', STANDBY, controlSocket], /standing by/);
}
