/** The unix sockets of a running flanneld: where its successor meets it, and where it tells its status. */
import { extname } from 'node:path';
import type { Options } from './flags.js';

const STATUS = 'status.sock';

/**
 * The path of the control socket: two flannelds with one subnet file are one daemon, before and after. Null where it is
 * switched off.
 */
export function controlSocketPath(options: Pick<Options, 'controlSocket' | 'subnetFile'>): string | null {
  return socketPath(options.controlSocket, options.subnetFile, 'sock');
}

/** The path of the status socket; null where it is switched off. */
export function statusSocketPath(options: Pick<Options, 'statusSocket' | 'subnetFile'>): string | null {
  return socketPath(options.statusSocket, options.subnetFile, STATUS);
}

/** Where the status socket is unless a flag says otherwise. */
export function defaultStatusSocketPath(subnetFile: string): string {
  return besideSubnetFile(subnetFile, STATUS);
}

function socketPath(flag: string, subnetFile: string, suffix: string): string | null {
  if (flag === 'none') return null;
  return flag !== '' ? flag : besideSubnetFile(subnetFile, suffix);
}

function besideSubnetFile(subnetFile: string, suffix: string): string {
  return `${subnetFile.slice(0, subnetFile.length - extname(subnetFile).length)}.${suffix}`;
}
