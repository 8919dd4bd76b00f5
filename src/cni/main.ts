#!/usr/bin/env node
/**
 * The CNI plugin `flannel`: gives containers addresses out of this host's subnet by calling other plugins, mostly
 * `bridge` with `host-local`. It runs anew for each container, so it imports neither the daemon nor the dataplane.
 */
import { readFileSync } from 'node:fs';
import { arch } from 'node:process';
import { codeOf, messageOf } from '../errors.js';
import { CODE, CniError } from './cni-error.js';
import { add, check, del, status } from './commands.js';
import { collectGarbage } from './gc.js';
import { readNetConf } from './net-conf.js';
import { checkRequest, readCommand, readConfig } from './request.js';
import { CURRENT, SUPPORTED } from './versions.js';

/** Set by the bundler; a file of a checkout has none. */
declare const FLANNEL_VERSION: string | undefined;

const COMMANDS = { ADD: add, DEL: del, CHECK: check, STATUS: status, GC: collectGarbage };

void main().then((exitCode) => {
  process.exitCode = exitCode;
});

async function main(): Promise<number> {
  const { env } = process;
  if ((env.CNI_COMMAND ?? '') === '') return about();
  if (env.CNI_COMMAND === 'VERSION') {
    process.stdout.write(`${JSON.stringify({ cniVersion: CURRENT, supportedVersions: SUPPORTED })}\n`);
    return 0;
  }
  let version = CURRENT;
  try {
    const command = readCommand(env);
    const config = readConfig(await input());
    if (SUPPORTED.includes(config.cniVersion)) version = config.cniVersion;
    const request = checkRequest(command, env, config);
    process.stdout.write(await COMMANDS[command](request, readNetConf(request.config)));
    return 0;
  } catch (error) {
    process.stdout.write(`${asCniError(error).toJson(version)}\n`);
    return 1;
  }
}

function asCniError(error: unknown): CniError {
  return error instanceof CniError ? error : new CniError(CODE.INTERNAL, messageOf(error));
}

/** For those who call it by hand. */
function about(): number {
  const version = typeof FLANNEL_VERSION === 'string' ? FLANNEL_VERSION : 'of this checkout';
  process.stderr.write(
    `CNI Plugin flannel version ${version} (linux/${arch})\n` +
      `CNI protocol versions supported: ${SUPPORTED.join(', ')}\n`,
  );
  return 0;
}

/** All of the standard input, in one go where it can be waited for so: a stream would cost start-up time. */
async function input(): Promise<string> {
  try {
    return readFileSync(0, 'utf8');
  } catch (error) {
    if (codeOf(error) !== 'EAGAIN') throw error;
  }
  let text = '';
  for await (const chunk of process.stdin.setEncoding('utf8')) text += String(chunk);
  return text;
}
