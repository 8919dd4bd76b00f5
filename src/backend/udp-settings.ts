/** What the network config and the flags say about the udp backend, checked and completed. */
import { availableParallelism } from 'node:os';
import type { NetworkConfig } from '../config.js';
import { prepareControlSocket } from '../control-socket.js';
import type { DataplaneOptions, Feature, SourceCheck } from '../dataplane.js';
import { FlannelError, messageOf } from '../errors.js';
import type { Stack } from '../iface/external-interface.js';
import { decodeField, parseJsonObject, readBool, readString, readUint } from '../gojson.js';
import type { JsonValue } from '../gojson.js';
import { LEAST_IPV6_MTU } from '../ip6.js';
import type { BackendOptions, Underlay } from './backend.js';
import { TIERS } from './tiers.js';

const DEFAULT_PORT = 8285;
/** RFC 791: every link carries this much. */
export const LEAST_MTU = 68;
const MOST_MTU = 65507; // of a datagram over IPv4
const MOST_QUEUES = 64;
const MOST_GENERATION = 0xffffffff;
const MOST_SOURCE_PORTS = 64; // a queue

const UNDERLAYS: readonly Underlay[] = ['ipv4', 'ipv6'];
const SOURCE_CHECKS: readonly SourceCheck[] = ['peer', 'subnet', 'none'];

export interface UdpSettings {
  /** Of this host. */
  readonly port: number;
  /** Of every host that announces none of its own. */
  readonly networkPort: number;
  readonly underlay: Underlay;
  /** Which families the overlay has. */
  readonly carries: { readonly v4: boolean; readonly v6: boolean };
  /** Of the overlay; null: what the external interface leaves. */
  readonly mtu: number | null;
  /** Whether TCP's segments are kept to what the overlay, or a narrower path, carries. */
  readonly clampMss: boolean;
  /** What the dataplane is told whatever its addresses are. */
  readonly dataplane: Omit<
    DataplaneOptions,
    'tunName' | 'bindAddress' | 'port' | 'tunnelAddress' | 'tunnelAddress6' | 'clampMtu'
  >;
}

/** @throws FlannelError that says what to write instead. */
export function readUdpSettings(config: NetworkConfig, options: BackendOptions): UdpSettings {
  const { networkPort, mtu, clampMss, sourceCheck, probeMtu, underlay } = readBackend(config);
  checkRange('udp-port', options.udpPort, 0, 65535);
  checkRange('handover-generation', options.handoverGeneration, 0, MOST_GENERATION);
  checkRange('dataplane-queues', options.dataplaneQueues, 0, MOST_QUEUES);
  checkRange('dataplane-source-ports', options.dataplaneSourcePorts, 1, MOST_SOURCE_PORTS);
  return {
    port: options.udpPort === 0 ? networkPort : options.udpPort,
    networkPort,
    underlay,
    carries: { v4: config.enableIPv4, v6: config.enableIPv6 },
    mtu,
    clampMss,
    dataplane: {
      features: wantedFeatures(options),
      required: options.dataplaneTier !== 'auto',
      threads: threadsFor(options),
      queues: queuesFor(options),
      sourcePorts: options.dataplaneSourcePorts,
      receiveBuffer: options.dataplaneReceiveBuffer,
      sendBuffer: options.dataplaneSendBuffer,
      controlSocket: prepareControlSocket(options),
      generation: options.handoverGeneration,
      sourceCheck,
      probeMtu,
    },
  };
}

/**
 * The families that hosts need an address of: those of the overlay, as with stock flannel, and that of the datagrams.
 * @throws FlannelError for a Backend object that cannot be read
 */
export function hostStack(config: NetworkConfig): Stack {
  const { enableIPv4, enableIPv6 } = config;
  return { enableIPv4, enableIPv6: enableIPv6 || readBackend(config).underlay === 'ipv6' };
}

interface BackendKeys {
  readonly underlay: Underlay;
  readonly networkPort: number;
  readonly mtu: number | null;
  readonly clampMss: boolean;
  readonly sourceCheck: SourceCheck;
  readonly probeMtu: boolean;
}

/** What the config's Backend object says. */
function readBackend({ backend, enableIPv4, enableIPv6 }: NetworkConfig): BackendKeys {
  try {
    const object = parseJsonObject(backend, 'Backend');
    const port = decodeField(object, 'Port', DEFAULT_PORT, readUint, 'a port number such as 8285');
    const mtu = decodeField(object, 'MTU', 0, readUint, 'a number of bytes such as 1400');
    const byDefault = enableIPv4 ? 'ipv4' : 'ipv6';
    const underlay = decodeField(object, 'Underlay', byDefault, readUnderlay, '"ipv4" or "ipv6"');
    if (underlay === 'ipv4' && !enableIPv4) {
      throw new FlannelError(
        'Underlay is "ipv4", but EnableIPv4 is false: leave it out, or set it to "ipv6"',
      );
    }
    const least = enableIPv6 ? LEAST_IPV6_MTU : LEAST_MTU;
    const bool = (key: string) => decodeField(object, key, false, readBool, 'true or false');
    return {
      underlay,
      networkPort: inRange('Port', port, 1, 65535),
      mtu: mtu === 0 ? null : inRange('MTU', mtu, least, MOST_MTU),
      clampMss: bool('ClampMSS'),
      probeMtu: bool('ProbeMTU'),
      sourceCheck: decodeField(object, 'SourceCheck', 'peer', readSourceCheck, '"peer", "subnet" or "none"'),
    };
  } catch (error) {
    throw new FlannelError(`error decoding UDP backend config: ${messageOf(error)}`, { cause: error });
  }
}

function inRange(name: string, value: number, least: number, most: number): number {
  if (value >= least && value <= most) return value;
  throw new FlannelError(`${name} ${value} must be from ${least} to ${most}`);
}

function readUnderlay(value: JsonValue, before: Underlay): Underlay | undefined {
  const text = readString(value, before);
  return UNDERLAYS.find((known) => known === text);
}

function readSourceCheck(value: JsonValue, before: SourceCheck): SourceCheck | undefined {
  const text = readString(value, before);
  return SOURCE_CHECKS.find((known) => known === text);
}

/** What the flags ask of the kernel. */
export function wantedFeatures({
  dataplaneTier: tier,
  dataplaneDisable: disabled,
}: Pick<BackendOptions, 'dataplaneTier' | 'dataplaneDisable'>): Feature[] {
  const features: readonly Feature[] = TIERS[tier === 'auto' ? 'full' : tier];
  return features.filter((feature) => !(disabled as readonly Feature[]).includes(feature));
}

/**
 * On two processors, which senders and receivers need as well, a thread for each direction costs more switches than it
 * saves waiting: in no trial of the benchmark was it faster there, and TCP cost it a quarter more.
 */
function threadsFor({ dataplaneThreads: threads }: BackendOptions): 'single' | 'split' {
  if (threads !== 'auto') return threads;
  return availableParallelism() > 2 ? 'split' : 'single';
}

/** A queue keeps two threads busy. Processors beyond the eighth are left to those whose packets these are. */
function queuesFor({ dataplaneQueues: queues }: BackendOptions): number {
  return queues > 0 ? queues : Math.min(4, Math.max(1, availableParallelism() >> 1));
}

function checkRange(flag: string, value: number, least: number, most: number): void {
  if (value >= least && value <= most) return;
  throw new FlannelError(`Invalid ${flag} ${value}: write a number from ${least} to ${most}`);
}
