/** The udp backend: every packet of the overlay travels as one UDP datagram, without a header of its own. */
import { availableParallelism } from 'node:os';
import type { NetworkConfig } from '../config.js';
import { counters, Dataplane, nativeErrorCode } from '../dataplane.js';
import type { Feature, Route } from '../dataplane.js';
import { FlannelError, messageOf } from '../errors.js';
import { decodeField, parseJsonObject, readUint } from '../gojson.js';
import type { ExternalInterface } from '../iface.js';
import { Cidr4, formatIp4 } from '../ip.js';
import type { Lease, LeaseAttrs } from '../lease/lease.js';
import { log } from '../log.js';
import { Rtnetlink } from '../netlink/rtnetlink.js';
import { sleep } from '../retry.js';
import type { Backend, BackendNetwork, BackendOptions } from './backend.js';

const DEFAULT_PORT = 8285;
const OUTER_HEADERS = 28; // IPv4 and UDP
const INNER_HEADERS = 60; // IPv4 and TCP with timestamps, rounded up
const MOST_PAYLOAD = 65535 - OUTER_HEADERS;
const MOST_QUEUES = 64;
const MOST_SOURCE_PORTS = 64; // a queue
const LEAST_MTU = 68; // RFC 791: every link carries this much

/** What each tier uses of the kernel, slowest first; `auto` is the last as far as the kernel goes. */
const TIERS = {
  basic: [],
  batch: ['batch'],
  'udp-offload': ['batch', 'gso', 'gro'],
  full: ['batch', 'gso', 'gro', 'tso', 'uso'],
} as const satisfies Record<string, readonly Feature[]>;

const TUN_NAME = 'flannel%d';
const WATCH_MS = 1000;
const DROPS_EVERY = 10; // watch periods between two reports of drops

/** See BackendFactory. */
export function createUdpBackend(
  config: NetworkConfig,
  external: ExternalInterface,
  options: BackendOptions,
): Backend {
  const port = readPort(config.backend);
  checkRange('dataplane-queues', options.dataplaneQueues, 0, MOST_QUEUES);
  checkRange('dataplane-source-ports', options.dataplaneSourcePorts, 1, MOST_SOURCE_PORTS);
  const mtu = external.mtu - OUTER_HEADERS;
  if (mtu < LEAST_MTU) {
    throw new FlannelError(
      `interface ${external.name} has an MTU of ${external.mtu}, but the udp backend needs at least ` +
        `${LEAST_MTU + OUTER_HEADERS}: raise it (\`ip link set dev ${external.name} mtu 1500\`) or choose another with --iface`,
    );
  }
  const attrs: LeaseAttrs = {
    publicIp: external.publicIp,
    publicIpV6: null,
    backendType: '', // udp announces neither type nor data
    backendData: null,
    backendV6Data: null,
  };
  return { attrs, open: (lease) => openNetwork({ config, external, options, port, mtu }, lease) };
}

interface Plan {
  readonly config: NetworkConfig;
  readonly external: ExternalInterface;
  readonly options: BackendOptions;
  readonly port: number;
  readonly mtu: number;
}

/** The `Port` of the config's Backend object. */
function readPort(backend: string): number {
  let port: number;
  try {
    const object = parseJsonObject(backend, 'Backend');
    port = decodeField(object, 'Port', DEFAULT_PORT, readUint, 'a port number such as 8285');
  } catch (error) {
    throw new FlannelError(`error decoding UDP backend config: ${messageOf(error)}`, { cause: error });
  }
  if (port < 1 || port > 65535) {
    throw new FlannelError(`error decoding UDP backend config: Port ${port} must be from 1 to 65535`);
  }
  return port;
}

function featuresFor({ dataplaneTier: tier, dataplaneDisable: disabled }: BackendOptions): Feature[] {
  const features: readonly Feature[] = TIERS[tier === 'auto' ? 'full' : tier];
  return features.filter((feature) => !(disabled as readonly Feature[]).includes(feature));
}

/** Two threads on one processor only cost switches between them. */
function threadsFor({ dataplaneThreads: threads }: BackendOptions): 'single' | 'split' {
  if (threads !== 'auto') return threads;
  return availableParallelism() > 1 ? 'split' : 'single';
}

function checkRange(flag: string, value: number, least: number, most: number): void {
  if (value >= least && value <= most) return;
  throw new FlannelError(`Invalid ${flag} ${value}: write a number from ${least} to ${most}`);
}

/** A queue keeps two threads busy. Processors beyond the eighth are left to those whose packets these are. */
function queuesFor({ dataplaneQueues: queues }: BackendOptions): number {
  return queues > 0 ? queues : Math.min(4, Math.max(1, availableParallelism() >> 1));
}

function openNetwork(plan: Plan, lease: Lease): BackendNetwork {
  // A /32, so that the kernel makes no broadcast routes beside the overlay's own.
  const address = new Cidr4(lease.subnet.v4.ip, 32);
  const dataplane = new Dataplane({
    tunName: TUN_NAME,
    features: featuresFor(plan.options),
    required: plan.options.dataplaneTier !== 'auto',
    threads: threadsFor(plan.options),
    queues: queuesFor(plan.options),
    sourcePorts: plan.options.dataplaneSourcePorts,
    bindAddress: plan.external.address,
    port: plan.port,
    receiveBuffer: plan.options.dataplaneReceiveBuffer,
    sendBuffer: plan.options.dataplaneSendBuffer,
    tunnelAddress: address.ip,
  });
  try {
    configureDevice(dataplane.tunName, plan, address);
    if (!dataplane.canSendIcmp) {
      log.warning('cannot open a raw socket, so no ICMP errors reach this host; CAP_NET_RAW allows it');
    }
    dataplane.start();
    log.info(`Dataplane features: ${dataplane.stats().features.join(', ') || 'none'}`);
  } catch (error) {
    dataplane.close();
    throw error;
  }
  return new UdpNetwork(dataplane, plan.mtu, plan.port);
}

/** MTU, link state, address, and the route of the whole overlay. The device's end removes all of it. */
function configureDevice(name: string, plan: Plan, address: Cidr4): void {
  const netlink = new Rtnetlink();
  try {
    const link = netlink.links().find((candidate) => candidate.name === name);
    if (link === undefined) throw new FlannelError(`the TUN device ${name} went away while it was set up`);
    netlink.addAddress(link.index, address);
    netlink.setGsoMaxSize(link.index, gsoMaxSize(plan.mtu));
    netlink.bringUp(link.index, plan.mtu);
    addOverlayRoute(netlink, plan.config.network, link.index, name);
  } catch (error) {
    const code = nativeErrorCode(error);
    if (code === undefined) throw error;
    const remedy = code === 'EPERM' ? ': CAP_NET_ADMIN is missing; run as root or grant the capability' : '';
    throw new FlannelError(`cannot set up the TUN device ${name} (${messageOf(error)})${remedy}`, {
      cause: error,
    });
  } finally {
    netlink.close();
  }
}

/**
 * A super-packet of at most this size, each of its segments with headers of its own, fits into one datagram run of
 * 64 KB; one of the kernel's default size would take two.
 */
function gsoMaxSize(mtu: number): number {
  const segments = Math.max(1, Math.floor(MOST_PAYLOAD / mtu));
  return segments * (mtu - INNER_HEADERS);
}

/** A route that is there already is left alone, but not without a word: it decides where the packets go. */
function addOverlayRoute(netlink: Rtnetlink, network: Cidr4, linkIndex: number, name: string): void {
  try {
    netlink.addRoute(network, linkIndex);
  } catch (error) {
    if (nativeErrorCode(error) !== 'EEXIST') throw error;
    log.warning(
      `there is a route to ${network.toString()} already, so ${name} gets no packets; ` +
        `delete it (\`ip route del ${network.toString()}\`) and restart`,
    );
  }
}

class UdpNetwork implements BackendNetwork {
  constructor(
    private readonly dataplane: Dataplane,
    readonly mtu: number,
    private readonly port: number,
  ) {}

  setPeers(peers: readonly Lease[]): void {
    const routes: Route[] = [];
    for (const { subnet, attrs } of peers) {
      if (attrs.publicIp === 0) {
        log.warning(
          `ignoring the lease ${subnet.v4.toString()}: its public IP is ${formatIp4(attrs.publicIp)}`,
        );
      } else {
        // A lease says no port: all hosts of a network use the same.
        routes.push({ destination: subnet.v4, address: attrs.publicIp, port: this.port });
      }
    }
    this.dataplane.setRoutes(routes);
  }

  async run(signal: AbortSignal): Promise<void> {
    let before = this.drops();
    let features = this.dataplane.stats().features;
    for (let period = 1; await sleep(WATCH_MS, signal); period++) {
      const { failure, features: left } = this.dataplane.stats();
      for (const feature of features.filter((name) => !left.includes(name))) {
        log.warning(`the kernel refuses ${feature} at run time; going on without it`);
      }
      features = left;
      if (failure !== null) {
        throw new FlannelError(
          `the dataplane stopped (${failure}); was the TUN device ${this.dataplane.tunName} deleted? Restart flanneld`,
        );
      }
      if (period % DROPS_EVERY !== 0 || !log.v(1).enabled) continue;
      const now = this.drops();
      const grown = [...now].filter(([name, count]) => count > (before.get(name) ?? 0));
      for (const [name, count] of grown) log.v(1).info(`${name}: ${count - (before.get(name) ?? 0)} packets`);
      before = now;
    }
  }

  close(): void {
    this.dataplane.close();
    const values = this.dataplane.stats().counters;
    log.info(`Dataplane counters: ${counters.map(({ name }, i) => `${name}=${values[i] ?? 0}`).join(' ')}`);
  }

  private drops(): Map<string, number> {
    const values = this.dataplane.stats().counters;
    const drops = counters.flatMap(({ name, role }, i) =>
      role === 'drop' ? [[name, values[i] ?? 0] as const] : [],
    );
    return new Map(drops);
  }
}
