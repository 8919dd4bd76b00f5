/** The store and the host as flanneld with these flags would find them. Nothing is taken or changed. */
import { statSync } from 'node:fs';
import { createUdpBackend } from '../backend/udp.js';
import { hostStack, readUdpSettings } from '../backend/udp-settings.js';
import type { Underlay } from '../backend/backend.js';
import type { NetworkConfig } from '../config.js';
import { controlSocketPath } from '../socket-paths.js';
import { findOwner } from '../dataplane.js';
import { ConfigError, FlannelError, messageOf } from '../errors.js';
import type { Options } from '../flags.js';
import { IPV4_ONLY, selectInterface } from '../iface/external-interface.js';
import type { ExternalInterface } from '../iface/external-interface.js';
import { surveyHost } from '../iface/survey.js';
import type { LeaseAttrs, StoredLease } from '../lease/lease.js';
import { readHostNetwork } from '../netlink/rtnetlink.js';
import type { HostNetwork, Link } from '../netlink/rtnetlink.js';
import { createSubnetManager } from '../subnet/stores.js';
import type { SubnetManager } from '../subnet/manager.js';
import { readPreviousSubnets } from '../subnet/subnet-file.js';
import type { PreviousSubnets } from '../subnet/subnet-file.js';

const STORE_MS = 8000;
const DEFAULT_PORT = 8285;
const OUR_DEVICE = /^flannel\d+$/;

export interface Observed {
  readonly options: Options;
  readonly store: StoreFacts;
  readonly host: HostNetwork;
  /** Null, and then why. */
  readonly external: ExternalInterface | null;
  readonly externalProblem: string | null;
  /** What flanneld would announce; null where it would not get that far. */
  readonly attrs: LeaseAttrs | null;
  /** What is wrong with the Backend of the config, or with flags about it. */
  readonly settingsProblem: string | null;
  /** The UDP port of this host. */
  readonly port: number;
  /** The family of the datagrams. */
  readonly underlay: Underlay;
  /** Those that the subnet file names. */
  readonly ownSubnets: PreviousSubnets;
  readonly owner: Owner;
}

export interface StoreFacts {
  readonly kind: 'Kubernetes' | 'directory' | 'etcd';
  readonly description: string;
  /** Why the store does not answer. */
  readonly problem: string | null;
  readonly config: NetworkConfig | null;
  readonly configProblem: string | null;
  readonly leases: readonly StoredLease[] | null;
}

/** The flanneld that runs here, if one does. */
export interface Owner {
  readonly alive: boolean;
  /** Its device. */
  readonly device: Link | null;
}

export async function observe(options: Options): Promise<Observed> {
  const ownSubnets = readPreviousSubnets(options.subnetFile);
  const store = await observeStore(options, ownSubnets);
  const { config } = store;
  const stack = attempt(() => (config === null ? null : hostStack(config))).value ?? config ?? IPV4_ONLY;
  const host = readHostNetwork(stack.enableIPv6);
  const external = attempt(() => selectInterface(options, surveyHost(options, stack), stack));
  // A control socket is for those who forward.
  const quiet = { ...options, controlSocket: 'none' };
  const settings = attempt(() => (config === null ? null : readUdpSettings(config, quiet)));
  const attrs = attempt(() =>
    config === null || external.value === null ? null : createUdpBackend(config, external.value, quiet).attrs,
  );
  return {
    options,
    store,
    host,
    external: external.value,
    externalProblem: external.problem,
    attrs: attrs.value,
    settingsProblem: settings.problem,
    port: settings.value?.port ?? (options.udpPort || DEFAULT_PORT),
    underlay: settings.value?.underlay ?? 'ipv4',
    ownSubnets,
    owner: findDaemon(options, host),
  };
}

/** What `read` gives, or the words of the FlannelError that it throws. */
function attempt<T>(read: () => T): { value: T | null; problem: string | null } {
  try {
    return { value: read(), problem: null };
  } catch (error) {
    if (!(error instanceof FlannelError)) throw error;
    return { value: null, problem: error.message };
  }
}

function findDaemon(options: Options, { links }: HostNetwork): Owner {
  const path = controlSocketPath(options);
  const { alive, device } = path === null ? { alive: false, device: null } : findOwner(path);
  const named = links.find(({ name }) => name === device);
  return {
    alive,
    device: named ?? links.find(({ name, tun }) => tun !== null && OUR_DEVICE.test(name)) ?? null,
  };
}

async function observeStore(options: Options, previous: PreviousSubnets): Promise<StoreFacts> {
  const known = describeStore(options);
  const nothing = { ...known, config: null, configProblem: null, leases: null };
  const signal = AbortSignal.timeout(STORE_MS);
  let manager: SubnetManager;
  try {
    // A store that is not there is not made by looking at it.
    if (known.kind === 'directory') statSync(options.subnetDir);
    manager = await createSubnetManager(options, previous, signal);
  } catch (error) {
    return { ...nothing, problem: messageOf(error) };
  }
  try {
    const config = await manager.getNetworkConfig(signal);
    return { ...nothing, problem: null, config, leases: await snapshot(manager, signal) };
  } catch (error) {
    if (error instanceof ConfigError) {
      return { ...nothing, problem: null, configProblem: error.message };
    }
    const problem = signal.aborted ? `no answer within ${STORE_MS / 1000} s` : messageOf(error);
    return { ...nothing, problem };
  } finally {
    manager.close();
  }
}

/** As createSubnetManager() chooses. */
function describeStore(options: Options): Pick<StoreFacts, 'kind' | 'description'> {
  if (options.kubeSubnetMgr) return { kind: 'Kubernetes', description: 'the Kubernetes API' };
  if (options.subnetDir !== '') return { kind: 'directory', description: `directory ${options.subnetDir}` };
  return { kind: 'etcd', description: `etcd at ${options.etcdEndpoints}` };
}

/** The leases of this moment; null where they do not come in time. */
async function snapshot(manager: SubnetManager, late: AbortSignal): Promise<readonly StoredLease[] | null> {
  const enough = new AbortController();
  const signal = AbortSignal.any([late, enough.signal]);
  try {
    for await (const batch of manager.watchLeases(signal)) {
      for (const event of batch) if (event.type === 'snapshot') return event.leases;
    }
    return null;
  } finally {
    enough.abort();
  }
}
