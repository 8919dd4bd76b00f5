/** subnet.env as the CNI plugin reads it: stricter than a restarted flanneld does, since pods depend on each key. */
import { readFileSync } from 'node:fs';
import { FlannelError, codeOf, messageOf } from '../errors.js';
import { networkOf } from './cidr.js';
import type { Family } from './cidr.js';

export interface SubnetEnv {
  /** The networks of the overlay: IPv4, then IPv6. */
  readonly networks: readonly string[];
  /** This host's subnets, at most one a family: IPv4, then IPv6. */
  readonly subnets: readonly string[];
  /** Bytes. */
  readonly mtu: number;
  /** Whether flanneld masquerades. */
  readonly ipMasq: boolean;
}

/** There is no such file (yet): flanneld has not got so far. */
export class NoSubnetEnv extends FlannelError {
  override readonly retryable = true;
}

const MAX_UINT32 = 0xffff_ffff;
const KEYS = [
  'FLANNEL_NETWORK',
  'FLANNEL_IPV6_NETWORK',
  'FLANNEL_SUBNET',
  'FLANNEL_IPV6_SUBNET',
  'FLANNEL_MTU',
  'FLANNEL_IPMASQ',
];

/** @throws FlannelError that names the file and what is wrong with it; NoSubnetEnv where there is none. */
export function loadSubnetEnv(path: string): SubnetEnv {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') throw new NoSubnetEnv(`open ${path}: no such file or directory`);
    throw new FlannelError(`open ${path}: ${messageOf(error)}`, { cause: error });
  }
  return parseSubnetEnv(text, path);
}

/** Reads the file's text; `path` is its name in errors. @throws FlannelError */
export function parseSubnetEnv(text: string, path: string): SubnetEnv {
  const values = assignments(text, path);
  const list = (key: string, family: Family) => cidrs(values.get(key)?.split(',') ?? [], family, key, path);
  const single = (key: string, family: Family) =>
    cidrs(values.has(key) ? [values.get(key) ?? ''] : [], family, key, path);
  const networks = [...list('FLANNEL_NETWORK', 4), ...list('FLANNEL_IPV6_NETWORK', 6)];
  const subnets = [...single('FLANNEL_SUBNET', 4), ...single('FLANNEL_IPV6_SUBNET', 6)];
  const mtu = values.get('FLANNEL_MTU');
  const ipMasq = values.get('FLANNEL_IPMASQ');
  const missing = [
    ...(networks.length === 0 ? ['FLANNEL_NETWORK', 'FLANNEL_IPV6_NETWORK'] : []),
    ...(subnets.length === 0 ? ['FLANNEL_SUBNET', 'FLANNEL_IPV6_SUBNET'] : []),
    ...(mtu === undefined ? ['FLANNEL_MTU'] : []),
    ...(ipMasq === undefined ? ['FLANNEL_IPMASQ'] : []),
  ];
  if (missing.length > 0) throw new FlannelError(`${path} is missing ${missing.join(', ')}`);
  return { networks, subnets, mtu: readMtu(mtu ?? '', path), ipMasq: ipMasq === 'true' };
}

/** The last value of each known key; neither quotes nor comments exist. */
function assignments(text: string, path: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const [key = '', ...rest] = line.split('=');
    if (!KEYS.includes(key)) continue;
    if (rest.length === 0) throw new FlannelError(`${path}: ${key} has no value, expected ${key}=…`);
    values.set(key, rest.join('='));
  }
  return values;
}

function cidrs(items: readonly string[], family: Family, key: string, path: string): string[] {
  const networks = items.map((item) => {
    const network = networkOf(item, family);
    if (network !== undefined) return network;
    throw new FlannelError(`${path}: ${key} has ${JSON.stringify(item)}, expected an IPv${family} CIDR`);
  });
  return [...new Set(networks)];
}

function readMtu(text: string, path: string): number {
  if (/^\d+$/.test(text) && Number(text) <= MAX_UINT32) return Number(text);
  throw new FlannelError(`${path}: FLANNEL_MTU is ${JSON.stringify(text)}, expected a number of bytes`);
}
