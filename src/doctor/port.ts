/** Who holds the UDP port. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { endianness } from 'node:os';
import { formatEndpoint } from '../address.js';
import type { Ip } from '../address.js';
import type { Underlay } from '../backend/backend.js';
import { ip6FromBytes } from '../ip6.js';
import { error, ok, skipped } from './finding.js';
import type { Finding } from './finding.js';
import type { Observed } from './observe.js';

const UNSPECIFIED = { ipv4: 0, ipv6: '::' } as const;
const TABLE = { ipv4: '/proc/net/udp', ipv6: '/proc/net/udp6' } as const;

interface BoundSocket {
  readonly address: Ip;
  readonly inode: string;
}

export function checkPort({ external, port, owner, underlay }: Observed): Finding {
  const id = 'port';
  if (owner.alive) return ok(id, `UDP ${port}: a flanneld runs on this host`);
  const address = (underlay === 'ipv4' ? external?.address : external?.addressV6) ?? null;
  if (address === null) return skipped(id, 'there is no address to look at');
  const holder = boundTo(port, underlay).find((socket) =>
    [address, UNSPECIFIED[underlay]].includes(socket.address),
  );
  if (holder === undefined) return ok(id, `UDP ${formatEndpoint(address, port)} is free`);
  return error(
    id,
    `UDP ${formatEndpoint(holder.address, port)} is taken by ${processWith(holder.inode)}`,
    'flanneld cannot bind its socket; where that process is a flanneld, doctor needs the --subnet-file or ' +
      '--control-socket it was given',
    `end it (\`ss -ulpn 'sport = :${port}'\` names it), or set another Backend.Port on all hosts, or --udp-port here`,
  );
}

/** Of the kernel's tables, which show the sockets of this network namespace (proc(5)). */
function boundTo(port: number, underlay: Underlay): BoundSocket[] {
  return readFileSync(TABLE[underlay], 'utf8')
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const fields = line.trim().split(/\s+/);
      const [, address = '', bound = ''] = /^([\dA-F]{8,32}):([\dA-F]{4})$/.exec(fields[1] ?? '') ?? [];
      if (Number.parseInt(bound, 16) !== port) return [];
      // Words of 32 bits, each as a number of this machine.
      const bytes = Buffer.from(address, 'hex');
      if (endianness() === 'LE') bytes.swap32();
      const ip = bytes.length === 4 ? bytes.readUInt32BE() : ip6FromBytes(bytes);
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
