/** Who holds the UDP port. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { endianness } from 'node:os';
import { formatIp4 } from '../ip.js';
import type { Ip4 } from '../ip.js';
import { error, ok, skipped } from './finding.js';
import type { Finding } from './finding.js';
import type { Observed } from './observe.js';

const UNSPECIFIED = 0;

interface BoundSocket {
  readonly address: Ip4;
  readonly inode: string;
}

export function checkPort({ external, port, owner }: Observed): Finding {
  const id = 'port';
  if (owner.alive) return ok(id, `UDP ${port}: a flanneld runs on this host`);
  const address = external?.address ?? null;
  if (address === null) return skipped(id, 'there is no address to look at');
  const holder = boundTo(port).find((socket) => socket.address === address || socket.address === UNSPECIFIED);
  if (holder === undefined) return ok(id, `UDP ${formatIp4(address)}:${port} is free`);
  return error(
    id,
    `UDP ${formatIp4(holder.address)}:${port} is taken by ${processWith(holder.inode)}`,
    'flanneld cannot bind its socket; where that process is a flanneld, doctor needs the --subnet-file or ' +
      '--control-socket it was given',
    `end it (\`ss -ulpn 'sport = :${port}'\` names it), or set another Backend.Port on all hosts, or --udp-port here`,
  );
}

/** Of /proc/net/udp, which shows the sockets of this network namespace (proc(5)). */
function boundTo(port: number): BoundSocket[] {
  return readFileSync('/proc/net/udp', 'utf8')
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const fields = line.trim().split(/\s+/);
      const [, address = '', bound = ''] = /^([\dA-F]{8}):([\dA-F]{4})$/.exec(fields[1] ?? '') ?? [];
      if (Number.parseInt(bound, 16) !== port) return [];
      const bytes = Buffer.from(address, 'hex');
      const ip = endianness() === 'LE' ? bytes.readUInt32LE() : bytes.readUInt32BE();
      return [{ address: ip, inode: fields[9] ?? '' }];
    });
}

/** The process that holds a socket, as far as this user can see. */
function processWith(inode: string): string {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const folder = `/proc/${pid}/fd`;
      const holds = readdirSync(folder).some((fd) => linkOf(`${folder}/${fd}`) === `socket:[${inode}]`);
      if (holds) return `process ${pid} (${readFileSync(`/proc/${pid}/comm`, 'utf8').trim()})`;
    } catch {
      // It has ended, or belongs to somebody else.
    }
  }
  return 'a process that this user cannot see';
}

function linkOf(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}
