/** Where a running flanneld and its successor meet, and what a dead one leaves there. */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { dirname, extname } from 'node:path';
import { messageOf } from './errors.js';
import type { Options } from './flags.js';
import { log } from './log.js';

/** sun_path of unix(7), with its zero. */
const LONGEST_PATH = 107;

/**
 * The path of the control socket: two flannelds with one subnet file are one daemon, before and after. Null where it is
 * switched off.
 */
export function controlSocketPath(options: Pick<Options, 'controlSocket' | 'subnetFile'>): string | null {
  const { controlSocket, subnetFile } = options;
  if (controlSocket === 'none') return null;
  if (controlSocket !== '') return controlSocket;
  return `${subnetFile.slice(0, subnetFile.length - extname(subnetFile).length)}.sock`;
}

/** The same, with a folder to stand in; null, after a warning, where there can be none. */
export function prepareControlSocket(options: Pick<Options, 'controlSocket' | 'subnetFile'>): string | null {
  const path = controlSocketPath(options);
  if (path === null) return null;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    accessSync(dirname(path), constants.W_OK);
    if (Buffer.byteLength(path) > LONGEST_PATH) throw new Error(`longer than ${LONGEST_PATH} bytes`);
    return path;
  } catch (error) {
    log.warning(`no hand-over at a restart: there can be no control socket ${path} (${messageOf(error)})`);
    return null;
  }
}
