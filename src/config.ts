import { completeIpv4, completeIpv6 } from './config-subnets.js';
import type { Ipv4Subnets, Ipv6Subnets } from './config-subnets.js';
import { ConfigError, FlannelError } from './errors.js';
import { decodeField, fields, parseJsonObject, readBool, readString, readUint } from './gojson.js';
import type { JsonObject, JsonValue } from './gojson.js';
import { Cidr4, parseIp4 } from './ip.js';
import type { Ip4 } from './ip.js';
import { canonicalIp6, Cidr6 } from './ip6.js';
import type { Ip6 } from './ip6.js';

/**
 * The validated network config, defaults filled in. The members of a family that is not enabled are as they were given,
 * and nothing is required of them.
 */
export interface NetworkConfig extends Ipv4Subnets, Ipv6Subnets {
  readonly enableIPv4: boolean;
  readonly enableIPv6: boolean;
  readonly enableNFTables: boolean;
  /** Lower-cased; `udp` when the config has no Backend, empty when its Backend has no Type. */
  readonly backendType: string;
  /** The Backend object's JSON text as written, or `{}`. */
  readonly backend: string;
}

/**
 * Reads and validates the network config.
 * @throws ConfigError that names the key and says what was expected. Its first words are flannel's own message
 * where flannel has one, since operators and scripts look for it.
 */
export function parseNetworkConfig(text: string): NetworkConfig {
  return parse(text, (config) => ({
    ...config,
    ...(config.enableIPv4 ? completeIpv4(config) : {}),
    ...(config.enableIPv6 ? completeIpv6(config) : {}),
  }));
}

/**
 * The same for Kubernetes, where the nodes' subnets are somebody else's choice: nothing is validated or filled in
 * about those.
 */
export function parseKubeNetworkConfig(text: string): NetworkConfig {
  return parse(text, (config) => config);
}

function parse(text: string, complete: (read: NetworkConfig) => NetworkConfig): NetworkConfig {
  try {
    return complete(readConfig(text));
  } catch (error) {
    if (error instanceof ConfigError || !(error instanceof FlannelError)) throw error;
    throw new ConfigError(`network config: ${error.message}`, { cause: error });
  }
}

function readConfig(text: string): NetworkConfig {
  const config = parseJsonObject(text, 'the document');
  const bool = (key: string, unset: boolean) => decodeField(config, key, unset, readBool, 'true or false');
  return {
    enableIPv4: bool('EnableIPv4', true),
    enableIPv6: bool('EnableIPv6', false),
    enableNFTables: bool('EnableNFTables', false),
    ...readIpv4Members(config),
    ...readIpv6Members(config),
    ...readBackend(config),
  };
}

function readIpv4Members(config: JsonObject): Ipv4Subnets {
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
function readIpv6Members(config: JsonObject): Ipv6Subnets {
  const network = decodeField(
    config,
    'IPv6Network',
    null,
    readCidr6,
    'an IPv6 network such as "fd00:5::/48"',
  );
  const address = (key: string) =>
    decodeField(config, key, '::', readIp6, 'an IPv6 address in quotes, such as "fd00:5:0:1::"');
  return {
    ipv6Network: network?.length === 0 ? null : network,
    ipv6SubnetMin: address('IPv6SubnetMin'),
    ipv6SubnetMax: address('IPv6SubnetMax'),
    ipv6SubnetLen: decodeField(
      config,
      'IPv6SubnetLen',
      0,
      readUint,
      'a whole number without quotes, such as 64',
    ),
  };
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

function readIp6(value: JsonValue, before: Ip6): Ip6 | undefined {
  if (value.kind === 'null') return before;
  return value.kind === 'string' ? canonicalIp6(value.value) : undefined;
}

function readCidr6(value: JsonValue): Cidr6 | null | undefined {
  if (value.kind !== 'string') return undefined;
  if (Cidr4.parse(value.value) !== undefined) return null; // flannel accepts one here, too; it is no IPv6 network
  return Cidr6.parse(value.value)?.network();
}
