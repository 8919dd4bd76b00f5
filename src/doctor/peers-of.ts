import { sameHost } from '../lease/identity.js';
import type { StoredLease } from '../lease/lease.js';
import type { Observed } from './observe.js';

/** The leases of other hosts; none where the store cannot be read. */
export function peersOf({ store, attrs, ownSubnet }: Observed): readonly StoredLease[] {
  return (store.leases ?? []).filter(
    (lease) =>
      (ownSubnet === null || lease.subnet.v4?.network().equals(ownSubnet) !== true) &&
      !(attrs !== null && sameHost(lease.attrs, attrs)),
  );
}
