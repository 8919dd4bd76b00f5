/** Calling another plugin, as the CNI specification has it for delegation. */
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { codeOf } from '../errors.js';
import { CODE, CniError } from './cni-error.js';
import type { Environment } from './request.js';

/** A plugin that was just installed may still be open for writing. */
const BUSY_ATTEMPTS = 5;
const BUSY_WAIT_MS = 1000;
const MAX_OUTPUT = 16 << 20;

/**
 * Runs a plugin with a config on its standard input; gives what it prints. What it says to standard error goes to ours.
 * @throws CniError: the plugin's own where it gives one.
 */
export function invoke(type: string, config: string, env: Environment): string {
  const program = findPlugin(type, env.CNI_PATH ?? '');
  for (let attempt = 1; ; attempt++) {
    const { status, signal, stdout, error } = spawnSync(program, [], {
      input: config,
      env,
      encoding: 'utf8',
      stdio: ['pipe', 'pipe', 'inherit'],
      maxBuffer: MAX_OUTPUT,
    });
    // EPIPE: it has ended without reading its input, which is its right.
    if (error === undefined || codeOf(error) === 'EPIPE') {
      if (status === 0) return stdout;
      throw failure(type, stdout, signal ?? `exit status ${status ?? '?'}`);
    }
    if (codeOf(error) !== 'ETXTBSY' || attempt === BUSY_ATTEMPTS) {
      throw new CniError(CODE.INTERNAL, `cannot run the plugin ${program}: ${error.message}`);
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BUSY_WAIT_MS);
  }
}

/** @throws CniError that names the folders. */
export function findPlugin(type: string, path: string): string {
  if (type === '' || type.includes('/')) {
    throw new CniError(CODE.INVALID_CONFIG, `invalid plugin name found: ${JSON.stringify(type)}`);
  }
  const folders = path.split(delimiter).filter((folder) => folder !== '');
  const found = folders.map((folder) => join(folder, type)).find(isFile);
  if (found !== undefined) return found;
  throw new CniError(
    CODE.INTERNAL,
    `failed to find plugin ${JSON.stringify(type)} in path [${folders.join(' ')}]`,
    'install the reference plugins there (Debian: containernetworking-plugins)',
  );
}

/** Whether a plugin knows a version of the specification. */
export function supportsVersion(type: string, version: string, env: Environment): boolean {
  const answer = invoke(type, JSON.stringify({ cniVersion: version }), { ...env, CNI_COMMAND: 'VERSION' });
  const versions = (JSON.parse(answer) as { supportedVersions?: unknown }).supportedVersions;
  return Array.isArray(versions) && versions.includes(version);
}

function failure(type: string, stdout: string, end: string): CniError {
  try {
    const error = JSON.parse(stdout) as { code?: unknown; msg?: unknown; details?: unknown };
    if (typeof error.msg === 'string') {
      const code = typeof error.code === 'number' ? error.code : CODE.INTERNAL;
      return new CniError(code, error.msg, typeof error.details === 'string' ? error.details : '');
    }
  } catch {
    // Told below.
  }
  const said =
    stdout.trim() === '' ? 'and gave no reason' : `and said ${JSON.stringify(stdout.slice(0, 200))}`;
  return new CniError(CODE.INTERNAL, `plugin ${type} failed (${end}) ${said}`);
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}
