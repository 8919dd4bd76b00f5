/**
 * What the daemon keeps of its privileges once everything is set up. docs/security.md gives the reasons to readers.
 */
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { FIRST_FREE_PORT, namesOf, toSet } from './capabilities.js';
import type { Capability } from './capabilities.js';
import { reducePrivileges } from './dataplane.js';
import { FlannelError, messageOf } from './errors.js';
import type { Options } from './flags.js';
import { log } from './log.js';
import { controlSocketPath, statusSocketPath } from './socket-paths.js';

type PrivilegeOptions = Pick<
  Options,
  | 'keepPrivileges'
  | 'kubeSubnetMgr'
  | 'etcdCafile'
  | 'etcdCertfile'
  | 'etcdKeyfile'
  | 'subnetDir'
  | 'subnetFile'
  | 'controlSocket'
  | 'statusSocket'
  | 'healthzPort'
>;

/** Who a process is to the checks of files. */
export interface Identity {
  readonly uid: number;
  readonly groups: readonly number[];
}

/**
 * Gives up, in all threads and for good, what a running daemon does not need. A kernel that refuses is no reason to
 * end: the daemon then runs as it did before there was such a step.
 * @param udpPort of this host; null for a backend without one
 */
export function dropPrivileges(options: PrivilegeOptions, udpPort: number | null): void {
  if (options.keepPrivileges) return;
  try {
    const kept = namesOf(reducePrivileges(toSet(capabilitiesFor(options, udpPort, ownIdentity()))));
    log.info(`Privileges kept: ${kept.join(', ') || 'none'}; no_new_privs is set`);
  } catch (error) {
    if (!(error instanceof FlannelError)) throw error;
    log.warning(`cannot give up privileges: ${messageOf(error)}; --keep-privileges asks for none of it`);
  }
}

/** What the daemon needs from now on, whether it has it or not. */
export function capabilitiesFor(
  options: PrivilegeOptions,
  udpPort: number | null,
  identity: Identity,
): Set<Capability> {
  // The device, addresses, routes and rules; iptables opens a raw socket.
  const needed = new Set<Capability>(['CAP_NET_ADMIN', 'CAP_NET_RAW']);
  const ports = [udpPort ?? 0, options.healthzPort];
  if (ports.some((port) => port > 0 && port < FIRST_FREE_PORT)) needed.add('CAP_NET_BIND_SERVICE');
  // Whoever rotates secrets may write them as another user, for that user alone.
  const { etcdCafile, etcdCertfile, etcdKeyfile } = options;
  const secrets = [etcdCafile, etcdCertfile, etcdKeyfile].some((file) => file !== '');
  if (options.kubeSubnetMgr || secrets) needed.add('CAP_DAC_READ_SEARCH');
  if (foldersOf(options).some((folder) => !mayWrite(folder, identity))) needed.add('CAP_DAC_OVERRIDE');
  return needed;
}

/** Where files are made and replaced at run time. */
function foldersOf(options: PrivilegeOptions): string[] {
  const files = [options.subnetFile, controlSocketPath(options), statusSocketPath(options)];
  const folders = files.flatMap((file) => (file === null ? [] : [dirname(file)]));
  const { subnetDir } = options;
  return subnetDir === '' || options.kubeSubnetMgr
    ? folders
    : [...folders, subnetDir, `${subnetDir}/subnets`];
}

/** Whether the mode of `folder` alone allows it; true for one that cannot be looked at, where nothing helps. */
function mayWrite(folder: string, { uid, groups }: Identity): boolean {
  const found = statSync(folder, { throwIfNoEntry: false });
  if (found === undefined) return true;
  const shift = found.uid === uid ? 6 : groups.includes(found.gid) ? 3 : 0;
  return ((found.mode >> shift) & 0o3) === 0o3;
}

function ownIdentity(): Identity {
  const groups = process.getgroups?.() ?? [];
  return { uid: process.geteuid?.() ?? 0, groups: [...groups, process.getegid?.() ?? 0] };
}
