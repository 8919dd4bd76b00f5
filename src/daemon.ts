/** The daemon: what is started in which order, and how it ends. */
import type { BackendNetwork } from './backend/backend.js';
import { findBackend } from './backend/registry.js';
import type { NetworkConfig } from './config.js';
import { notifyServiceManager } from './dataplane.js';
import { FlannelError, messageOf } from './errors.js';
import type { Options } from './flags.js';
import { renewMarginMs } from './flags.js';
import { followHost, HostFollower } from './host-follower.js';
import { selectInterface } from './iface.js';
import { followLeases } from './lease/follow.js';
import { LeaseKeeper } from './lease/keeper.js';
import type { OwnLease } from './lease/lease.js';
import { log } from './log.js';
import { NetworkMonitor } from './netlink/monitor.js';
import { readHostNetwork } from './netlink/rtnetlink.js';
import { sleep } from './retry.js';
import type { SubnetManager } from './subnet/manager.js';
import { createSubnetManager } from './subnet/stores.js';
import { writeSubnetFile } from './subnet/subnet-file.js';
import { TrafficRules } from './traffic/traffic-rules.js';

const RETRY_MS = 1000;

/**
 * Runs until `signal` fires.
 * @throws FlannelError for whatever ends the daemon otherwise; everything it made is gone by then.
 */
export async function runDaemon(options: Options, signal: AbortSignal): Promise<void> {
  const renewMargin = renewMarginMs(options);
  const manager = createSubnetManager(options);
  try {
    log.info(`Created subnet manager: ${manager.description}`);
    const config = await untilItWorks('fetch network config', signal, () => manager.getNetworkConfig(signal));
    if (config !== null) await serve(options, config, manager, renewMargin, signal);
  } finally {
    manager.close();
  }
}

/** From a config to packets: interface, lease, device, traffic rules, subnet file, then everything that goes on. */
async function serve(
  options: Options,
  config: NetworkConfig,
  manager: SubnetManager,
  renewMargin: number,
  signal: AbortSignal,
): Promise<void> {
  const type = options.backend === '' ? config.backendType : options.backend.toLowerCase();
  log.info(`Found network config - Backend type: ${type}`);
  const createBackend = findBackend(type);
  const rules = await TrafficRules.prepare(config, options);
  const external = selectInterface(options, readHostNetwork());
  const backend = createBackend(config, external, options);

  const lease = await untilItWorks('acquire a lease', signal, () =>
    manager.acquireLease(backend.attrs, signal),
  );
  if (lease === null) return;
  const network = backend.open(lease);
  const monitor = new NetworkMonitor(config.network);
  try {
    await rules.install(lease.subnet);
    if (await writeSubnets(options, config, lease, network)) log.info('flannel is ready');
    const keeper = new LeaseKeeper(manager, lease, renewMargin);
    let { mtu } = network;
    const follower = new HostFollower(options, external, network, async () => {
      keeper.announce(network.attrs);
      if (network.mtu !== mtu) await writeSubnets(options, config, lease, network);
      ({ mtu } = network);
    });
    log.info('Running backend.');
    notifyServiceManager('READY=1');
    await untilOneEnds(signal, (ended) => [
      network.run(ended),
      followHost(monitor, follower, ended),
      followLeases(manager, lease, network, keeper, ended),
      keeper.run(ended),
      rules.run(ended),
    ]);
  } finally {
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
  what: string,
  signal: AbortSignal,
  attempt: () => Promise<T>,
): Promise<T | null> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (signal.aborted) return null;
      if (!(error instanceof FlannelError) || !error.retryable) throw error;
      log.error(`Couldn't ${what}: ${messageOf(error)}`);
    }
    if (!(await sleep(RETRY_MS, signal))) return null;
  }
}

/**
 * Tells this host's container runtimes about the subnet. They can wait for it, so a failure, which gives false, ends
 * nothing.
 */
async function writeSubnets(
  options: Options,
  { network }: NetworkConfig,
  { subnet }: OwnLease,
  { mtu }: BackendNetwork,
): Promise<boolean> {
  try {
    await writeSubnetFile(options.subnetFile, { network, subnet: subnet.v4, mtu, ipMasq: options.ipMasq });
    log.info(`Wrote subnet file to ${options.subnetFile}`);
    return true;
  } catch (error) {
    log.warning(`Failed to write subnet file ${options.subnetFile}: ${messageOf(error)}`);
    return false;
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
