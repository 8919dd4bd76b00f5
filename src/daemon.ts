/** The daemon: what is started in which order, and how it ends. */
import { findBackend } from './backend/registry.js';
import { hostStack } from './backend/udp-settings.js';
import type { NetworkConfig } from './config.js';
import { DaemonState } from './daemon-state.js';
import { FlannelError, messageOf } from './errors.js';
import type { Options } from './flags.js';
import { renewMarginMs } from './flags.js';
import { followHost, HostFollower } from './host-follower.js';
import { startHealthEndpoint } from './http/health-endpoint.js';
import type { HttpServer } from './http/server.js';
import { selectInterface } from './iface/external-interface.js';
import { surveyHost, watchedBy } from './iface/survey.js';
import { followLeases } from './lease/follow.js';
import { LeaseKeeper } from './lease/keeper.js';
import { formatSubnetKey } from './lease/subnet-key.js';
import { LeaseTracker } from './lease/tracker.js';
import { log } from './log.js';
import { NetworkMonitor } from './netlink/monitor.js';
import { overlayNetworks } from './overlay.js';
import { dropPrivileges } from './privileges.js';
import { sleep } from './retry.js';
import { ServiceManager } from './service-manager.js';
import { StatusService } from './status/service.js';
import type { SubnetManager } from './subnet/manager.js';
import { createSubnetManager } from './subnet/stores.js';
import { readPreviousSubnets, subnetFamilies } from './subnet/subnet-file.js';
import type { PreviousSubnets } from './subnet/subnet-file.js';
import { SubnetFileWriter } from './subnet/subnet-file-writer.js';
import { TrafficRules } from './traffic/traffic-rules.js';

const RETRY_MS = 1000;

/**
 * Runs until `signal` fires.
 * @throws FlannelError for whatever ends the daemon otherwise; everything it made is gone by then.
 */
export async function runDaemon(options: Options, signal: AbortSignal): Promise<void> {
  const state = new DaemonState(options);
  const renewMargin = renewMarginMs(options);
  // Read once: what is wrong with the file is said once.
  const previous = readPreviousSubnets(options.subnetFile);
  const manager = await openStore(options, previous, signal);
  if (manager === null) return;
  const service = new ServiceManager(state);
  signal.addEventListener('abort', () => {
    service.stop();
  });
  const status = new StatusService(state);
  let endpoint: HttpServer | null = null;
  try {
    state.add({ manager });
    log.info(`Created subnet manager: ${manager.description}`);
    await status.open();
    endpoint = await startHealthEndpoint(state, status);
    state.phase = 'waiting for the network config';
    const config = await untilItWorks(state, 'fetch network config', signal, () =>
      manager.getNetworkConfig(signal),
    );
    if (config !== null) await serve(state, config, manager, previous, renewMargin, service, signal);
  } finally {
    state.phase = 'stopping';
    service.stop();
    manager.close();
    status.close();
    await endpoint?.close();
  }
}

/** Null when `signal` fires meanwhile. */
async function openStore(
  options: Options,
  previous: PreviousSubnets,
  signal: AbortSignal,
): Promise<SubnetManager | null> {
  try {
    return await createSubnetManager(options, previous, signal);
  } catch (error) {
    if (signal.aborted) return null;
    throw error;
  }
}

/** From a config to packets: interface, lease, device, traffic rules, subnet file, then everything that goes on. */
async function serve(
  state: DaemonState,
  config: NetworkConfig,
  manager: SubnetManager,
  previous: PreviousSubnets,
  renewMargin: number,
  service: ServiceManager,
  signal: AbortSignal,
): Promise<void> {
  const { options } = state;
  const type = options.backend === '' ? config.backendType : options.backend.toLowerCase();
  log.info(`Found network config - Backend type: ${type}`);
  state.add({ config, backendType: type });
  const createBackend = findBackend(type);
  const rules = await TrafficRules.prepare(config, options, previous);
  const addresses = await untilItWorks(state, 'read the public IP', signal, () =>
    manager.publicAddresses(signal),
  );
  if (addresses === null) return;
  const choice = {
    ...options,
    publicIp: addresses.v4 ?? options.publicIp,
    publicIpv6: addresses.v6 ?? options.publicIpv6,
  };
  const stack = hostStack(config);
  const external = selectInterface(choice, surveyHost(choice, stack), stack);
  const backend = createBackend(config, external, options);

  state.phase = 'waiting for a lease';
  const lease = await untilItWorks(state, 'acquire a lease', signal, () =>
    manager.acquireLease(backend.attrs, signal),
  );
  if (lease === null) return;
  state.phase = 'opening the backend';
  const network = backend.open(lease);
  const monitor = new NetworkMonitor(overlayNetworks(config), watchedBy(choice, stack));
  try {
    await rules.install(lease.subnet);
    const keeper = new LeaseKeeper(manager, lease, renewMargin);
    const tracker = new LeaseTracker(formatSubnetKey(lease.subnet));
    const subnetFile = new SubnetFileWriter(options.subnetFile, () => ({
      ...subnetFamilies(config, lease.subnet),
      mtu: network.mtu,
      ipMasq: options.ipMasq,
    }));
    let { mtu } = network;
    const follower = new HostFollower(choice, external, network, async () => {
      keeper.announce(network.attrs);
      if (network.mtu !== mtu) await subnetFile.write();
      ({ mtu } = network);
    });
    state.add({ network, follower, keeper, tracker, subnetFile, trafficRules: rules });
    dropPrivileges(options, network.observe().plan?.port ?? null);
    await subnetFile.write();
    log.info('Running backend.');
    state.phase = 'running';
    service.ready();
    await untilOneEnds(signal, (ended) => [
      network.run(ended),
      followHost(monitor, follower, () => surveyHost(choice, stack), ended),
      followLeases(manager, lease, network, keeper, ended, tracker),
      keeper.run(ended),
      subnetFile.run(ended),
      manager.maintain(ended),
      rules.run(ended),
    ]);
  } finally {
    state.phase = 'stopping';
    rules.close();
    monitor.close();
    network.close();
  }
}

/**
 * Repeats `attempt` every second while its error is one that may pass: an operator can mend the config, or the
 * store come back, while the daemon waits. Null when `signal` fires.
 */
async function untilItWorks<T>(
  state: DaemonState,
  what: string,
  signal: AbortSignal,
  attempt: () => Promise<T>,
): Promise<T | null> {
  for (;;) {
    try {
      const result = await attempt();
      state.obstacle = null;
      return result;
    } catch (error) {
      if (signal.aborted) return null;
      if (!(error instanceof FlannelError) || !error.retryable) throw error;
      state.obstacle = messageOf(error);
      log.error(`Couldn't ${what}: ${state.obstacle}`);
    }
    if (!(await sleep(RETRY_MS, signal))) return null;
  }
}

/**
 * Runs tasks side by side until `signal` fires, one of them ends or one fails; then ends the others and waits for them.
 * @throws the first failure.
 */
async function untilOneEnds(
  signal: AbortSignal,
  start: (ended: AbortSignal) => readonly Promise<void>[],
): Promise<void> {
  const end = new AbortController();
  const ended = AbortSignal.any([signal, end.signal]);
  const tasks = start(ended);
  try {
    await Promise.race(tasks);
  } finally {
    end.abort();
    await Promise.allSettled(tasks);
  }
}
