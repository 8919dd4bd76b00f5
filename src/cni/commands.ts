/** ADD, DEL, CHECK and STATUS. What a command resolves with is its output. */
import { messageOf } from '../errors.js';
import { networkContains } from './cidr.js';
import { CODE, CniError } from './cni-error.js';
import { canonicalJson, delegateConf, delegateType } from './delegate-conf.js';
import { askFlanneld, inWords } from './flanneld.js';
import { findPlugin, invoke, supportsVersion } from './invoke.js';
import type { Dictionary, NetConf } from './net-conf.js';
import { addressesOf, withGateways } from './previous-result.js';
import type { Request } from './request.js';
import { UNREADABLE, loadState, removeState, saveState } from './state.js';
import { NoSubnetEnv, loadSubnetEnv } from './subnet-env.js';
import type { SubnetEnv } from './subnet-env.js';

/** The state is kept before the delegate is called, and also where that one fails: a DEL follows in any case. */
export async function add(request: Request, conf: NetConf): Promise<string> {
  const config = await assemble(request, conf);
  process.stderr.write(`${config}\n`);
  saveState(conf.dataDir, request.containerId, config);
  return invoke(delegateType(conf), config, request.env);
}

export function del({ containerId, env }: Request, { dataDir, prevResult }: NetConf): string {
  const state = loadState(dataDir, containerId);
  if (state === undefined) return '';
  if (state === UNREADABLE) process.stderr.write(`failed to parse netconf of ${containerId}; dropped\n`);
  else invoke(state.type, canonicalJson(prevResult === null ? state : { ...state, prevResult }), env);
  removeState(dataDir, containerId);
  return '';
}

/**
 * The delegate checks what it has made. Only what no time will mend is an error here, for a runtime may give the
 * container up: that flanneld is restarted is none, that this host has another subnet now is one.
 */
export function check({ containerId, env }: Request, conf: NetConf): string {
  const state = loadState(conf.dataDir, containerId);
  if (state === undefined || state === UNREADABLE) {
    const problem = state === undefined ? 'has none' : 'cannot be read';
    throw new CniError(
      CODE.UNKNOWN_CONTAINER,
      `${conf.dataDir}/${containerId}, kept since ADD, ${problem}; add the container again`,
    );
  }
  const { prevResult } = conf;
  if (prevResult === null) throw new CniError(CODE.INVALID_CONFIG, 'Required prevResult missing');
  checkAddresses(prevResult, conf.subnetFile);
  invoke(state.type, canonicalJson({ ...state, prevResult: withGateways(prevResult) }), env);
  return '';
}

export async function status({ cniVersion, network, env }: Request, conf: NetConf): Promise<string> {
  const flanneld = await askFlanneld(conf.subnetFile);
  let subnets: SubnetEnv;
  try {
    subnets = loadSubnetEnv(conf.subnetFile);
  } catch (error) {
    throw new CniError(CODE.NOT_AVAILABLE, messageOf(error), inWords(flanneld));
  }
  if (flanneld.state === 'waiting' || flanneld.state === 'down') {
    throw new CniError(CODE.LIMITED_CONNECTIVITY, 'flanneld is not ready', inWords(flanneld));
  }
  const type = delegateType(conf);
  try {
    findPlugin(type, env.CNI_PATH ?? '');
  } catch (error) {
    throw new CniError(CODE.NOT_AVAILABLE, messageOf(error));
  }
  if (supportsVersion(type, cniVersion, env)) {
    invoke(type, canonicalJson(delegateConf({ network, cniVersion }, conf, subnets)), env);
  }
  return '';
}

async function assemble(request: Request, conf: NetConf): Promise<string> {
  let subnets: SubnetEnv;
  try {
    subnets = loadSubnetEnv(conf.subnetFile);
  } catch (error) {
    throw new CniError(
      error instanceof NoSubnetEnv ? CODE.TRY_AGAIN_LATER : CODE.INTERNAL,
      `failed to load flannel 'subnet.env' file: ${messageOf(error)}. Check the flannel pod log for this node.`,
      inWords(await askFlanneld(conf.subnetFile)),
    );
  }
  try {
    return canonicalJson(delegateConf(request, conf, subnets));
  } catch (error) {
    throw new CniError(CODE.INTERNAL, `failed to assemble Delegate IPAM: ${messageOf(error)}`);
  }
}

function checkAddresses(prevResult: Dictionary, subnetFile: string): void {
  let subnets: readonly string[];
  try {
    ({ subnets } = loadSubnetEnv(subnetFile));
  } catch (error) {
    process.stderr.write(`addresses not compared with the host's subnet: ${messageOf(error)}\n`);
    return;
  }
  for (const address of addressesOf(prevResult)) {
    if (subnets.some((subnet) => networkContains(subnet, address))) continue;
    throw new CniError(
      CODE.INTERNAL,
      `the container has ${address}, and this host's subnet is ${subnets.join(' and ')} now; nobody reaches it`,
      'create the container anew',
    );
  }
}
