import type { Cidr4, Ip4 } from '../ip.js';
import type { Cidr6, Ip6 } from '../ip6.js';

/** What a host announces about itself beside its subnet: the JSON value under a subnet key. */
export interface LeaseAttrs {
  /** 0: none. Together with a port of its own, what a host is told apart by (identity.ts). */
  readonly publicIp: Ip4;
  readonly publicIpV6: Ip6 | null;
  /** Empty for udp, which publishes no type. */
  readonly backendType: string;
  /** JSON text as the backend of that host wrote it, or null. */
  readonly backendData: string | null;
  readonly backendV6Data: string | null;
}

/**
 * The subnet of one host: of one family or both, hence one is not null. Host bits stay as the store's key has them, so
 * that the key can be written again.
 */
export interface LeaseSubnet {
  readonly v4: Cidr4 | null;
  readonly v6: Cidr6 | null;
}

/** Whether the two share an address of either family. */
export function overlap(a: LeaseSubnet, b: LeaseSubnet): boolean {
  const inV4 = a.v4 !== null && b.v4 !== null && a.v4.overlaps(b.v4);
  return inV4 || (a.v6 !== null && b.v6 !== null && a.v6.overlaps(b.v6));
}

/** For people: the IPv4 subnet where there is one, else the IPv6 one. */
export function formatSubnet({ v4, v6 }: LeaseSubnet): string {
  return (v4 ?? v6)?.toString() ?? 'none';
}

/** For people, of one host: `10.5.1.0/24 and fd00:10:5:1::/64`, or the one that there is. */
export function formatBothSubnets({ v4, v6 }: LeaseSubnet): string {
  return [v4 ?? [], v6 ?? []].flat().join(' and ') || 'none';
}

/** A host's claim to a subnet. */
export interface Lease {
  readonly subnet: LeaseSubnet;
  readonly attrs: LeaseAttrs;
}

/**
 * Who wrote a version of an entry: a process on this host's network stack (this one, or one that takes over from
 * it), anybody else, another host that wrote it to tell a rival of itself, or unknown where the store has no trace of
 * it.
 */
export type Writer = 'here' | 'elsewhere' | 'informed' | 'unknown';

/** A lease as a store keeps it. */
export interface StoredLease extends Lease {
  /** The store's word for this version of the entry; a renewal succeeds only on top of it. */
  readonly revision: string;
  /** An entry that never runs out. */
  readonly reservation: boolean;
  readonly writer: Writer;
}

/** The lease of this host. */
export interface OwnLease extends Lease {
  /** Milliseconds since the epoch; null for a reservation, which never runs out and is never renewed. */
  readonly expiration: number | null;
  /** See StoredLease. */
  readonly revision: string;
}

/** True where nothing differs of what is announced. */
export function sameAttrs(a: LeaseAttrs, b: LeaseAttrs): boolean {
  return (
    a.publicIp === b.publicIp &&
    a.publicIpV6 === b.publicIpV6 &&
    a.backendType === b.backendType &&
    a.backendData === b.backendData &&
    a.backendV6Data === b.backendV6Data
  );
}
