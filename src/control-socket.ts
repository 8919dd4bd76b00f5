/** Room for the unix sockets of a running flanneld. */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf } from './errors.js';
import type { Options } from './flags.js';
import { log } from './log.js';
import { controlSocketPath } from './socket-paths.js';

/** sun_path of unix(7), with its zero. */
const LONGEST_PATH = 107;

/** The path of the control socket with a folder to stand in; null, after a warning, where there can be none. */
export function prepareControlSocket(options: Pick<Options, 'controlSocket' | 'subnetFile'>): string | null {
  const path = controlSocketPath(options);
  if (path === null) return null;
  try {
    prepareSocketFolder(path);
    return path;
  } catch (error) {
    log.warning(`no hand-over at a restart: there can be no control socket ${path} (${messageOf(error)})`);
    return null;
  }
}

/** Makes the folder of a socket. @throws Error where there can be no socket of that name. */
export function prepareSocketFolder(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  accessSync(dirname(path), constants.W_OK);
  if (Buffer.byteLength(path) > LONGEST_PATH) throw new Error(`longer than ${LONGEST_PATH} bytes`);
}
