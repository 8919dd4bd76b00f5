/**
 * GC: what containers have left behind that the runtime does not know any more – after a crash, typically. The runtime
 * calls nothing else for the network meanwhile (CNI specification, section 3).
 */
import { readFileSync, readdirSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { codeOf, messageOf } from '../errors.js';
import { decodeField, fields } from '../gojson.js';
import type { JsonObject, JsonValue } from '../gojson.js';
import { CODE, CniError } from './cni-error.js';
import { canonicalJson, delegateConf, delegateType, ipamType } from './delegate-conf.js';
import { invoke, supportsVersion } from './invoke.js';
import type { NetConf } from './net-conf.js';
import { isContainerId } from './request.js';
import type { Environment, Request } from './request.js';
import { UNREADABLE, listStates, loadState, removeState } from './state.js';
import { loadSubnetEnv } from './subnet-env.js';

interface Attachment {
  readonly containerId: string;
  /** Empty where host-local, in an old version, has not written it down. */
  readonly ifname: string;
}

const KEY = 'cni.dev/valid-attachments';
const LEASES = '/var/lib/cni/networks';
/** host-local demands a range even to give an address back, and gives it back whatever the range. */
const ANY_RANGE = [[{ subnet: '192.0.2.0/24' }]];

/** Removes as much as it can. @throws CniError that tells everything that could not be removed. */
export function collectGarbage(request: Request, conf: NetConf): string {
  const valid = validAttachments(request.config);
  const problems: string[] = [];
  const attempt = (action: () => void) => {
    try {
      action();
    } catch (error) {
      problems.push(messageOf(error));
    }
  };
  attempt(() => {
    passOn(request, conf);
  });
  attempt(() => {
    for (const id of staleStates(request.network, conf, valid))
      attempt(() => {
        deleteStale(request, conf, id, valid);
      });
  });
  attempt(() => {
    for (const lease of staleLeases(request, conf, valid))
      attempt(() => {
        release(request, conf, lease);
      });
  });
  if (problems.length === 0) return '';
  throw new CniError(CODE.INTERNAL, `garbage is left: ${problems.join('; ')}`);
}

function passOn({ network, cniVersion, config, env }: Request, conf: NetConf): void {
  const type = delegateType(conf);
  if (!supportsVersion(type, cniVersion, env)) return;
  const delegate = delegateConf({ network, cniVersion }, conf, loadSubnetEnv(conf.subnetFile));
  const attachments: unknown = JSON.parse(fields(config, KEY).at(-1)?.raw ?? '[]');
  invoke(type, canonicalJson({ ...delegate, [KEY]: attachments }), env);
}

/** Containers of this network of which a config is kept, but no attachment is valid. */
function staleStates(network: string, { dataDir }: NetConf, valid: readonly Attachment[]): string[] {
  const alive = new Set(valid.map(({ containerId }) => containerId));
  return listStates(dataDir).filter((id) => {
    if (alive.has(id)) return false;
    const state = loadState(dataDir, id);
    // One that cannot be read serves nobody, of whichever network it is.
    return state === UNREADABLE || state?.name === network;
  });
}

/** As a DEL whose namespace is gone. */
function deleteStale(
  request: Request,
  conf: NetConf,
  containerId: string,
  valid: readonly Attachment[],
): void {
  const state = loadState(conf.dataDir, containerId);
  if (state !== UNREADABLE && state !== undefined) {
    const leases = staleLeases(request, conf, valid).filter((lease) => lease.containerId === containerId);
    const ifnames = leases.length > 0 ? leases.map(({ ifname }) => ifname) : [''];
    for (const ifname of ifnames) {
      invoke(state.type, canonicalJson(state), deletion(request.env, { containerId, ifname }));
    }
  }
  removeState(conf.dataDir, containerId);
}

/** By host-local itself, which holds its lock meanwhile. */
function release({ network, cniVersion, env }: Request, conf: NetConf, lease: Attachment): void {
  const version = supportsVersion('host-local', cniVersion, env) ? cniVersion : '1.0.0';
  const ipam = { ...conf.ipam, type: 'host-local', ranges: ANY_RANGE, routes: [] };
  invoke('host-local', canonicalJson({ cniVersion: version, name: network, ipam }), deletion(env, lease));
}

function deletion(env: Environment, { containerId, ifname }: Attachment): Environment {
  return {
    ...env,
    CNI_COMMAND: 'DEL',
    CNI_CONTAINERID: containerId,
    CNI_IFNAME: ifname === '' ? 'eth0' : ifname,
    CNI_NETNS: '',
  };
}

/** Addresses that host-local has given to attachments that are not valid. */
function staleLeases({ network }: Request, conf: NetConf, valid: readonly Attachment[]): Attachment[] {
  if (ipamType(conf) !== 'host-local') return [];
  const { dataDir } = conf.ipam;
  const folder = join(typeof dataDir === 'string' && dataDir !== '' ? dataDir : LEASES, network);
  const stale = new Map<string, Attachment>();
  for (const name of addressFiles(folder)) {
    const [containerId = '', ifname = ''] = readFileSync(join(folder, name), 'utf8').trim().split(/\r?\n/);
    const held = valid.some((one) => one.containerId === containerId && ['', one.ifname].includes(ifname));
    if (!held && isContainerId(containerId)) stale.set(`${containerId} ${ifname}`, { containerId, ifname });
  }
  return [...stale.values()];
}

function addressFiles(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => isIP(name) !== 0);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Without the list nothing is known to be garbage; a null, as Go writes an empty one, says that all is. */
function validAttachments(config: JsonObject): readonly Attachment[] {
  if (fields(config, KEY).length === 0) {
    throw new CniError(CODE.INVALID_CONFIG, `GC needs ${KEY} in the network config`);
  }
  try {
    return decodeField(
      config,
      KEY,
      [] as Attachment[],
      readAttachments,
      'a list of {"containerID", "ifname"}',
    );
  } catch (error) {
    throw new CniError(CODE.INVALID_CONFIG, messageOf(error));
  }
}

function readAttachments(value: JsonValue, before: Attachment[]): Attachment[] | undefined {
  if (value.kind === 'null') return before;
  if (value.kind !== 'array') return undefined;
  const attachments: Attachment[] = [];
  for (const item of value.items) {
    if (item.kind !== 'object') return undefined;
    const [containerId, ifname] = ['containerID', 'ifname'].map((name) => fields(item, name).at(-1));
    if (containerId?.kind !== 'string' || ifname?.kind !== 'string') return undefined;
    attachments.push({ containerId: containerId.value, ifname: ifname.value });
  }
  return attachments;
}
