/** What a runtime asks for: environment and network config, checked as the CNI specification has it. */
import { statSync } from 'node:fs';
import { decodeField, parseJsonObject, readString } from '../gojson.js';
import type { JsonObject } from '../gojson.js';
import { messageOf } from '../errors.js';
import { CODE, CniError } from './cni-error.js';
import { checkVersion } from './versions.js';

export type Command = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC';

/** The environment without what is undefined in it. */
export type Environment = Readonly<Record<string, string | undefined>>;

export interface Request {
  readonly command: Command;
  /** Empty for STATUS and GC. */
  readonly containerId: string;
  /** Path of the container's network namespace; may be empty for DEL. */
  readonly netns: string;
  readonly config: JsonObject;
  readonly network: string;
  /** As the config has it, or empty. */
  readonly cniVersion: string;
  /** Passed on to delegates. */
  readonly env: Environment;
}

const ATTACHMENT = ['CNI_CONTAINERID', 'CNI_IFNAME', 'CNI_PATH'];
const REQUIRED: Readonly<Record<Command, readonly string[]>> = {
  ADD: [...ATTACHMENT, 'CNI_NETNS'],
  CHECK: [...ATTACHMENT, 'CNI_NETNS'],
  DEL: ATTACHMENT,
  STATUS: ['CNI_PATH'],
  GC: ['CNI_PATH'],
};

/** How container ids and network names may be spelt; so neither can lead out of a directory. */
const IDENTIFIER = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

/** IFNAMSIZ of linux/if.h with its zero. */
const LONGEST_IFNAME = 15;

/** Whether a file of this name can be a container's. */
export function isContainerId(name: string): boolean {
  return IDENTIFIER.test(name);
}

/** The command, where the environment holds all it needs. @throws CniError */
export function readCommand(env: Environment): Command {
  const command = env.CNI_COMMAND ?? '';
  if (!isCommand(command)) {
    throw new CniError(CODE.INVALID_ENVIRONMENT, `unknown CNI_COMMAND: ${command}`);
  }
  const missing = REQUIRED[command].filter((name) => (env[name] ?? '') === '');
  if (missing.length > 0) {
    throw new CniError(CODE.INVALID_ENVIRONMENT, `required env variables [${missing.join(',')}] missing`);
  }
  return command;
}

/** The config as far as every plugin reads it. @throws CniError */
export function readConfig(text: string): Pick<Request, 'config' | 'network' | 'cniVersion'> {
  try {
    const config = parseJsonObject(text, 'network config');
    const network = decodeField(config, 'name', '', readString, 'a string');
    const cniVersion = decodeField(config, 'cniVersion', '', readString, 'a string');
    return { config, network, cniVersion };
  } catch (error) {
    throw new CniError(CODE.DECODING_FAILURE, `error unmarshall network config: ${messageOf(error)}`);
  }
}

/** The whole request. @throws CniError that says what is wrong with it. */
export function checkRequest(
  command: Command,
  env: Environment,
  { config, network, cniVersion }: ReturnType<typeof readConfig>,
): Request {
  checkNetwork(network);
  const containerId = env.CNI_CONTAINERID ?? '';
  const netns = env.CNI_NETNS ?? '';
  if (command !== 'STATUS' && command !== 'GC') {
    if (!isContainerId(containerId)) {
      throw new CniError(CODE.INVALID_ENVIRONMENT, 'invalid characters in containerID', containerId);
    }
    checkIfname(env.CNI_IFNAME ?? '');
  }
  checkVersion(cniVersion === '' ? '0.1.0' : cniVersion, command);
  if ((command === 'ADD' || command === 'DEL') && isOwnNetns(netns) && !overridden(env)) {
    throw new CniError(
      CODE.INVALID_NETNS,
      "plugin's netns and netns from CNI_NETNS should not be the same",
      netns,
    );
  }
  return { command, containerId, netns, config, network, cniVersion, env };
}

function isCommand(text: string): text is Command {
  return Object.hasOwn(REQUIRED, text);
}

function checkNetwork(name: string): void {
  if (name === '') throw new CniError(CODE.INVALID_CONFIG, 'missing network name');
  if (!IDENTIFIER.test(name)) {
    throw new CniError(CODE.INVALID_CONFIG, 'invalid characters found in network name', name);
  }
}

function checkIfname(name: string): void {
  const problem =
    name.length > LONGEST_IFNAME
      ? 'interface name is too long'
      : name === '.' || name === '..'
        ? 'interface name is . or ..'
        : /[/:\s]/.test(name)
          ? 'interface name contains / or : or whitespace characters'
          : '';
  if (problem !== '') throw new CniError(CODE.INVALID_ENVIRONMENT, problem, name);
}

/** False where there is no such namespace: what that means, the delegate knows. */
function isOwnNetns(path: string): boolean {
  try {
    const [own, other] = [statSync('/proc/self/ns/net'), statSync(path)];
    return own.ino === other.ino && own.dev === other.dev;
  } catch {
    return false;
  }
}

function overridden(env: Environment): boolean {
  return /^(?:true|1)$/i.test(env.CNI_NETNS_OVERRIDE ?? '');
}
