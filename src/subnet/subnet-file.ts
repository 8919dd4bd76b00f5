/**
 * The subnet file (subnet.env): how container runtimes and the CNI plugin learn this host's subnet, and how a
 * restarted daemon remembers it. Shell-style KEY=value lines.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FlannelError, codeOf, messageOf } from '../errors.js';
import { Cidr4, formatIp4 } from '../ip.js';
import { log } from '../log.js';

export interface SubnetFile {
  /** The whole overlay network. */
  readonly network: Cidr4;
  /** The leased subnet; the file names its first usable address. */
  readonly subnet: Cidr4;
  /** Bytes that fit into one packet of the overlay. */
  readonly mtu: number;
  readonly ipMasq: boolean;
}

/** The file's text. */
export function formatSubnetFile({ network, subnet, mtu, ipMasq }: SubnetFile): string {
  const { ip, length } = subnet.network();
  return (
    `FLANNEL_NETWORK=${network.network().toString()}\n` +
    `FLANNEL_SUBNET=${formatIp4(ip + 1)}/${length}\n` +
    `FLANNEL_MTU=${mtu}\n` +
    `FLANNEL_IPMASQ=${String(ipMasq)}\n`
  );
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

/**
 * The subnet, in network form, that an earlier run wrote; null when the file is missing or names no subnet or
 * several. Whatever else is wrong with the file is logged, never thrown.
 */
export function readPreviousSubnet(path: string): Cidr4 | null {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') {
      log.warning(`Cannot read the subnet file ${path}, so no previous subnet is known: ${messageOf(error)}`);
    }
    return null;
  }
  const subnets: Cidr4[] = [];
  for (const item of (parseEnv(text).get('FLANNEL_SUBNET') ?? '').split(',')) {
    if (item === '') continue;
    const subnet = Cidr4.parse(item);
    if (subnet !== undefined) subnets.push(subnet.network());
    else
      log.error(
        `FLANNEL_SUBNET in ${path} has ${JSON.stringify(item.slice(0, 80))}, expected an IPv4 CIDR; skipped`,
      );
  }
  if (subnets.length > 1)
    log.warning(`FLANNEL_SUBNET in ${path} names ${subnets.length} subnets, expected one; ignored`);
  return subnets.length === 1 ? (subnets[0] ?? null) : null;
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
