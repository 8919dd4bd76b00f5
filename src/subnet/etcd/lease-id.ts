/**
 * Who wrote an entry, told by the id of the etcd lease that it lives by.
 *
 * A client may choose the ids of its leases, and nobody makes anything of them: key, value and TTL stay those of
 * every flanneld. The upper 31 bits of ours name the network stack that the writer runs on, the lower 32 are random
 * but for the last, which says that the entry was written to tell a rival of its writer.
 * So a daemon can tell its own entry, rewritten by the process that takes over from it, from the same entry
 * rewritten by another host that announces the same public IP: NAT, or a cloned virtual machine. The kernel's boot
 * id is different even in clones, and the network namespace tells containers apart.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import type { Writer } from '../../lease/lease.js';

/** What etcd writes for "no lease". */
export const NO_LEASE = '0';

const TELLS = 1n;

/** Ids for the leases of one network stack. */
export class LeaseIds {
  /** @param stack 31 bits that no other network stack has; this process's own unless a test says otherwise */
  constructor(private readonly stack = networkStack()) {}

  /** A new id, in decimal. @param tells for an entry that is written to tell a rival of this host */
  next(tells = false): string {
    const random = BigInt(randomBytes(4).readUInt32BE());
    return ((BigInt(this.stack) << 32n) | (random & ~TELLS) | (tells ? TELLS : 0n)).toString();
  }

  /** Who granted the lease `id`. An entry without a lease is a reservation, which bears no trace of its writer. */
  writerOf(id: string): Writer {
    if (id === NO_LEASE) return 'unknown';
    if (BigInt(id) >> 32n === BigInt(this.stack)) return 'here';
    return (BigInt(id) & TELLS) === 0n ? 'elsewhere' : 'informed';
  }
}

function networkStack(): number {
  let identity: string | Buffer;
  try {
    identity = `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')}${readlinkSync('/proc/self/ns/net')}`;
  } catch {
    identity = randomBytes(16); // Without /proc a successor counts as another host.
  }
  // Never 0, which would leave the id 0, "no lease", among the possible ones.
  return createHash('sha256').update(identity).digest().readUInt32BE() & 0x7fff_ffff || 1;
}
