import { ConfigError, FlannelError } from './errors.js';
import { decodeField, fields, parseJsonObject, readBool, readString, readUint } from './gojson.js';
import type { JsonObject, JsonValue } from './gojson.js';
import { Cidr4, formatIp4, maskOf, parseIp4 } from './ip.js';
import type { Ip4 } from './ip.js';
import { canonicalIp6, Cidr6 } from './ip6.js';

/** The validated network config, defaults filled in. */
export interface NetworkConfig {
  readonly enableIPv4: boolean;
  readonly enableIPv6: boolean;
  readonly enableNFTables: boolean;
  /** In network form. */
  readonly network: Cidr4;
  /** IPv6Network in network form, also where EnableIPv6 is false; null when there is none. */
  readonly ipv6Network: Cidr6 | null;
  readonly subnetMin: Ip4;
  readonly subnetMax: Ip4;
  readonly subnetLen: number;
  /** Lower-cased; `udp` when the config has no Backend, empty when its Backend has no Type. */
  readonly backendType: string;
  /** The Backend object's JSON text as written, or `{}`. */
  readonly backend: string;
}

/** The IPv4 members as written; 0 stands for "not given", as in Go. */
interface Ipv4Members {
  readonly network: Cidr4;
  readonly subnetMin: Ip4;
  readonly subnetMax: Ip4;
  readonly subnetLen: number;
}

/**
 * Reads and validates the network config.
 * @throws ConfigError that names the key and says what was expected. Its first words are flannel's own message
 * where flannel has one, since operators and scripts look for it.
 */
export function parseNetworkConfig(text: string): NetworkConfig {
  return parse(text, completeIpv4);
}

/**
 * The same for Kubernetes, where the nodes' subnets are somebody else's choice: nothing is validated or filled in
 * about those.
 */
export function parseKubeNetworkConfig(text: string): NetworkConfig {
  return parse(text, (members) => members);
}

function parse(text: string, complete: (given: Ipv4Members) => Ipv4Members): NetworkConfig {
  try {
    return readConfig(text, complete);
  } catch (error) {
    if (error instanceof ConfigError || !(error instanceof FlannelError)) throw error;
    throw new ConfigError(`network config: ${error.message}`, { cause: error });
  }
}

function readConfig(text: string, complete: (given: Ipv4Members) => Ipv4Members): NetworkConfig {
  const config = parseJsonObject(text, 'the document');
  const bool = (key: string, unset: boolean) => decodeField(config, key, unset, readBool, 'true or false');
  const enableIPv4 = bool('EnableIPv4', true);
  const enableIPv6 = bool('EnableIPv6', false);
  const enableNFTables = bool('EnableNFTables', false);
  const members = readIpv4Members(config);
  const ipv6Network = readIpv6Members(config);
  const backend = readBackend(config);
  if (enableIPv6) {
    throw new ConfigError(
      'EnableIPv6 is true, but only IPv4 is supported so far; set EnableIPv6 to false (EnableIPv4 stays true)',
    );
  }
  if (!enableIPv4) {
    throw new ConfigError(
      'EnableIPv4 is false, but only IPv4 is supported so far; set EnableIPv4 to true and EnableIPv6 to false',
    );
  }
  return { enableIPv4, enableIPv6, enableNFTables, ...complete(members), ipv6Network, ...backend };
}

function readIpv4Members(config: JsonObject): Ipv4Members {
  const address = (key: string) =>
    prefixed('invalid IP address format', () =>
      decodeField(config, key, 0, readIp4, 'an IPv4 address in quotes, such as "10.5.16.0"'),
    );
  return {
    network: prefixed('invalid IPv4 CIDR format', () =>
      decodeField(config, 'Network', new Cidr4(0, 0), readCidr4, 'an IPv4 network such as "10.5.0.0/16"'),
    ),
    subnetMin: address('SubnetMin'),
    subnetMax: address('SubnetMax'),
    subnetLen: decodeField(config, 'SubnetLen', 0, readUint, 'a whole number without quotes, such as 24'),
  };
}

/** A member that makes no sense is an error even where nothing will use it. */
function readIpv6Members(config: JsonObject): Cidr6 | null {
  const network = decodeField(
    config,
    'IPv6Network',
    null,
    readCidr6,
    'an IPv6 network such as "fd00:5::/48"',
  );
  for (const key of ['IPv6SubnetMin', 'IPv6SubnetMax']) {
    decodeField(config, key, '', readIp6, 'an IPv6 address in quotes, such as "fd00:5:0:1::"');
  }
  decodeField(config, 'IPv6SubnetLen', 0, readUint, 'a whole number without quotes, such as 64');
  return network?.length === 0 ? null : network;
}

function readBackend(config: JsonObject): Pick<NetworkConfig, 'backend' | 'backendType'> {
  const backend = fields(config, 'Backend').at(-1);
  if (backend === undefined) return { backendType: 'udp', backend: '{}' };
  if (backend.kind === 'null') return { backendType: '', backend: '{}' };
  return prefixed('error decoding Backend property of config', () => {
    if (backend.kind !== 'object') {
      throw new FlannelError(`Backend is of type ${backend.kind}, expected an object such as {"Type":"udp"}`);
    }
    const type = decodeField(backend, 'Type', '', readString, 'a backend\'s name in quotes, such as "udp"');
    return { backendType: type.toLowerCase(), backend: backend.raw };
  });
}

/** The defaults and checks of the IPv4 members, in flannel's order: the first mistake is the one reported. */
function completeIpv4(given: Ipv4Members): Ipv4Members {
  const { network } = given;
  if (network.ip === 0 && network.length === 0) {
    throw new ConfigError(
      'please define a correct Network parameter in the flannel config: expected an IPv4 network such as "Network":"10.5.0.0/16"',
    );
  }
  const subnetLen = completeSubnetLen(given.subnetLen, network);
  const mask = maskOf(subnetLen);
  const subnetSize = 2 ** (32 - subnetLen);
  // The first subnet is left out by default: its network address is that of the whole network.
  const subnetMin = given.subnetMin === 0 ? network.ip + subnetSize : given.subnetMin;
  const subnetMax = given.subnetMax === 0 ? (network.last() & mask) >>> 0 : given.subnetMax;
  const bounds = Object.entries({ SubnetMin: subnetMin, SubnetMax: subnetMax });
  for (const [key, ip] of bounds) {
    if (network.contains(ip)) continue;
    throw new ConfigError(
      `${key} is not in the range of the Network: ${key} is ${formatIp4(ip)}, expected an address from ` +
        `${formatIp4(network.ip)} to ${formatIp4(network.last())}`,
    );
  }
  for (const [key, ip] of bounds) {
    const aligned = (ip & mask) >>> 0;
    if (ip === aligned) continue;
    throw new ConfigError(
      `${key} is not on a SubnetLen boundary: ${formatIp4(ip)}; expected the first address of a /${subnetLen}, ` +
        `such as ${formatIp4(aligned)}`,
    );
  }
  return { network, subnetMin, subnetMax, subnetLen };
}

function completeSubnetLen(given: number, network: Cidr4): number {
  if (given === 0) {
    if (network.length > 28) {
      throw new ConfigError(
        `network is too small. Minimum useful network prefix is /28: Network is ${network.toString()}, expected ` +
          'a prefix length of at most 28 (or a SubnetLen)',
      );
    }
    return network.length <= 22 ? 24 : network.length + 2;
  }
  const range = network.length > 28 ? 'a Network of /28 or larger' : `${network.length + 2} to 30`;
  const expected = `expected ${range}; Network is ${network.toString()}`;
  if (given > 30) {
    throw new ConfigError(`SubnetLen must be less than /31: SubnetLen is ${given}, ${expected}`);
  }
  if (given < network.length + 2) {
    throw new ConfigError(
      `network must be able to accommodate at least four subnets: SubnetLen is ${given}, ${expected}`,
    );
  }
  return given;
}

/** Puts flannel's own words in front of whatever `read` complains about. */
function prefixed<T>(words: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof FlannelError)) throw error;
    throw new ConfigError(`${words}: ${error.message}`, { cause: error });
  }
}

function readIp4(value: JsonValue): Ip4 | undefined {
  return value.kind === 'string' ? parseIp4(value.value) : undefined;
}

function readCidr4(value: JsonValue): Cidr4 | undefined {
  return value.kind === 'string' ? Cidr4.parse(value.value)?.network() : undefined;
}

function readIp6(value: JsonValue, before: string): string | undefined {
  if (value.kind === 'null') return before;
  return value.kind === 'string' ? canonicalIp6(value.value) : undefined;
}

function readCidr6(value: JsonValue): Cidr6 | null | undefined {
  if (value.kind !== 'string') return undefined;
  if (Cidr4.parse(value.value) !== undefined) return null; // flannel accepts one here, too; it is no IPv6 network
  return Cidr6.parse(value.value)?.network();
}
