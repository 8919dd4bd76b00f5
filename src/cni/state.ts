/** The delegates' configs between ADD and DEL: one file a container, so that DEL does not depend on subnet.env. */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { codeOf, messageOf } from '../errors.js';
import { CODE, CniError } from './cni-error.js';
import type { Dictionary } from './net-conf.js';
import { isContainerId } from './request.js';

/** A delegate's config: of all members, only the plugin's name is needed here. */
export interface SavedConf extends Dictionary {
  readonly type: string;
}

/** What is left of a config that cannot be read any more. */
export const UNREADABLE = Symbol('unreadable');

/** Keeps a config, in one step and also through a power failure. @throws CniError */
export function saveState(dataDir: string, containerId: string, config: string): void {
  const path = join(dataDir, containerId);
  // No container id begins with a dot.
  const temporary = join(dataDir, `.${containerId}.${process.pid}`);
  try {
    fs.mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    try {
      writeWhole(temporary, config);
      fs.renameSync(temporary, path);
    } catch (error) {
      fs.rmSync(temporary, { force: true });
      throw error;
    }
  } catch (error) {
    throw new CniError(CODE.IO_FAILURE, `cannot keep the delegate's config in ${path}: ${messageOf(error)}`);
  }
}

/** The config of a container; undefined where there is none. @throws CniError when the file cannot be read. */
export function loadState(dataDir: string, containerId: string): SavedConf | typeof UNREADABLE | undefined {
  const path = join(dataDir, containerId);
  let text: string;
  try {
    text = fs.readFileSync(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw new CniError(CODE.IO_FAILURE, `cannot read the delegate's config ${path}: ${messageOf(error)}`);
  }
  return parse(text) ?? UNREADABLE;
}

export function removeState(dataDir: string, containerId: string): void {
  fs.rmSync(join(dataDir, containerId), { force: true });
}

/** The containers of which something is kept. */
export function listStates(dataDir: string): string[] {
  try {
    return fs.readdirSync(dataDir).filter(isContainerId);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  }
}

function parse(text: string): SavedConf | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isSavedConf(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isSavedConf(value: unknown): value is SavedConf {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';
}

function writeWhole(path: string, text: string): void {
  const file = fs.openSync(path, 'w', 0o600);
  try {
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length;) at += fs.writeSync(file, bytes, at);
    fs.fsyncSync(file);
  } finally {
    fs.closeSync(file);
  }
}
