/**
 * The subnet file (subnet.env): how container runtimes and the CNI plugin learn this host's subnet, and how a
 * restarted daemon remembers it. Shell-style KEY=value lines.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { NetworkConfig } from '../config.js';
import { FlannelError, codeOf, messageOf } from '../errors.js';
import { Cidr4, formatIp4 } from '../ip.js';
import { Cidr6, ip6FromBytes, ip6ToBytes } from '../ip6.js';
import type { LeaseSubnet } from '../lease/lease.js';
import { log } from '../log.js';

export interface SubnetFile {
  /** Null where the network does not have the family. */
  readonly v4: SubnetFileFamily<Cidr4> | null;
  readonly v6: SubnetFileFamily<Cidr6> | null;
  /** Bytes that fit into one packet of the overlay. */
  readonly mtu: number;
  readonly ipMasq: boolean;
}

export interface SubnetFileFamily<Prefix> {
  /** The whole overlay network. */
  readonly network: Prefix;
  /** The leased subnet; the file names its first usable address. */
  readonly subnet: Prefix;
}

/** What an earlier run wrote, in network form; null where it named no subnet of the family, or several. */
export interface PreviousSubnets {
  readonly v4: Cidr4 | null;
  readonly v6: Cidr6 | null;
}

/** What the file says about the subnets of a lease. */
export function subnetFamilies(
  { enableIPv4, enableIPv6, network, ipv6Network }: NetworkConfig,
  { v4, v6 }: LeaseSubnet,
): Pick<SubnetFile, 'v4' | 'v6'> {
  return {
    v4: enableIPv4 && v4 !== null ? { network, subnet: v4 } : null,
    v6: enableIPv6 && v6 !== null && ipv6Network !== null ? { network: ipv6Network, subnet: v6 } : null,
  };
}

/** The file's text. */
export function formatSubnetFile({ v4, v6, mtu, ipMasq }: SubnetFile): string {
  const lines: string[] = [];
  if (v4 !== null) {
    const { ip, length } = v4.subnet.network();
    lines.push(`FLANNEL_NETWORK=${v4.network.network().toString()}`);
    lines.push(`FLANNEL_SUBNET=${formatIp4(ip + 1)}/${length}`);
  }
  if (v6 !== null) {
    const bytes = ip6ToBytes(v6.subnet.network().ip);
    bytes[15] = (bytes[15] ?? 0) | 1;
    lines.push(`FLANNEL_IPV6_NETWORK=${v6.network.network().toString()}`);
    lines.push(`FLANNEL_IPV6_SUBNET=${ip6FromBytes(bytes)}/${v6.subnet.length}`);
  }
  lines.push(`FLANNEL_MTU=${mtu}`, `FLANNEL_IPMASQ=${String(ipMasq)}`);
  return `${lines.join('\n')}\n`;
}

/**
 * Replaces the file in one step, so that a reader sees the old text or the new one, also after a power failure.
 * @throws FlannelError that names the file and the cause; the old file is as it was then.
 */
export async function writeSubnetFile(path: string, content: SubnetFile): Promise<void> {
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.${randomBytes(6).toString('hex')}`);
  try {
    await mkdir(directory, { recursive: true, mode: 0o755 });
    try {
      await writeSynced(temporary, formatSubnetFile(content));
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    await syncDirectory(directory);
  } catch (error) {
    const remedy = 'make the directory writable or name another file with --subnet-file';
    // Without the name of the temporary file, which is another one each time, so that a repetition can be told.
    const reason = messageOf(error).replace(`'${temporary}' -> `, '').replaceAll(temporary, path);
    throw new FlannelError(`cannot write the subnet file ${path}: ${reason}; ${remedy}`, { cause: error });
  }
}

/** A missing file names no subnets. Whatever else is wrong with it is logged, never thrown. */
export function readPreviousSubnets(path: string): PreviousSubnets {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') {
      log.warning(`Cannot read the subnet file ${path}, so no previous subnet is known: ${messageOf(error)}`);
    }
    return { v4: null, v6: null };
  }
  const values = parseEnv(text);
  const read = <Prefix extends { network(): Prefix }>(
    key: string,
    family: string,
    parse: (item: string) => Prefix | undefined,
  ): Prefix | null => {
    const subnets: Prefix[] = [];
    for (const item of (values.get(key) ?? '').split(',')) {
      if (item === '') continue;
      const subnet = parse(item);
      if (subnet !== undefined) subnets.push(subnet.network());
      else {
        const found = JSON.stringify(item.slice(0, 80));
        log.error(`${key} in ${path} has ${found}, expected an ${family} CIDR; skipped`);
      }
    }
    if (subnets.length > 1)
      log.warning(`${key} in ${path} names ${subnets.length} subnets, expected one; ignored`);
    return subnets.length === 1 ? (subnets[0] ?? null) : null;
  };
  return {
    v4: read('FLANNEL_SUBNET', 'IPv4', (item) => Cidr4.parse(item)),
    v6: read('FLANNEL_IPV6_SUBNET', 'IPv6', (item) => Cidr6.parse(item)),
  };
}

async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.chmod(0o644); // the mode given to open() would be subject to the umask
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Without this, the rename may be lost in a power failure though the new file's blocks are on disk. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

const ASSIGNMENT = /^\s*(?:export\s+)?([\w.]+)\s*[=:]\s*(.*)$/;
const QUOTED = /^(["'])(.*?)(?<!\\)\1\s*(?:#.*)?$/;

/**
 * The dotenv dialect that flannel reads: comments, `export`, either quote, `:` for `=`; the last use of a name
 * counts. Lines that make no sense are passed over. Variables are not expanded: no address has any.
 */
function parseEnv(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split(/\r?\n|\r/)) {
    const [, name, rest] = ASSIGNMENT.exec(line) ?? [];
    if (name === undefined || rest === undefined) continue;
    values.set(name, QUOTED.exec(rest)?.[2] ?? rest.replace(/(?:^|\s)#.*$/, '').trim());
  }
  return values;
}
