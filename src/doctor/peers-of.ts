import { sameHost } from '../lease/identity.js';
import type { LeaseSubnet, StoredLease } from '../lease/lease.js';
import type { Observed } from './observe.js';

/** The leases of other hosts; none where the store cannot be read. */
export function peersOf(observed: Observed): readonly StoredLease[] {
  const { store, attrs } = observed;
  return (store.leases ?? []).filter(
    (lease) => isOwn(lease.subnet, observed) !== true && !(attrs !== null && sameHost(lease.attrs, attrs)),
  );
}

/** Whether the subnet file names it; null where that names none. */
export function isOwn(
  subnet: LeaseSubnet,
  { ownSubnets: own }: Pick<Observed, 'ownSubnets'>,
): boolean | null {
  if (own.v4 !== null) return subnet.v4?.network().equals(own.v4) === true;
  return own.v6 === null ? null : subnet.v6?.network().equals(own.v6) === true;
}
