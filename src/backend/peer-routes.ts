import type { Route } from '../dataplane.js';
import { messageOf } from '../errors.js';
import { formatIp4 } from '../ip.js';
import type { Cidr4 } from '../ip.js';
import { ownPortOf } from '../lease/identity.js';
import { formatSubnet } from '../lease/lease.js';
import type { Lease, LeaseSubnet } from '../lease/lease.js';
import { formatSubnetKey } from '../lease/subnet-key.js';
import { log } from '../log.js';
import { LineLimit } from '../logging/limit.js';

/** What becomes of a forwarding table. */
export interface RouteChange {
  readonly put: readonly Route[];
  readonly removed: readonly Cidr4[];
}

/** Where the packets for each peer's subnet are sent. Remembers what it has complained about. */
export class PeerRoutes {
  /** By subnet key. */
  private complaints = new Map<string, string>();
  /** Whether there may be two leases for one prefix, so that the end of one need not be the end of the route. */
  private ambiguous = false;

  /**
   * @param networkPort of peers that announce none of their own
   * @param limit how many lines are written, however many leases there are
   */
  constructor(
    private readonly networkPort: number,
    private readonly limit = new LineLimit(),
  ) {}

  /** All routes. A lease that makes no sense is a warning, once as long as it stays so. */
  of(peers: readonly Lease[]): Route[] {
    const before = this.complaints;
    this.complaints = new Map();
    this.ambiguous = peers.some(({ subnet }) => isOdd(subnet));
    return peers.flatMap((lease) => this.routeTo(lease, before) ?? []);
  }

  /** What changes about the routes; null when only all of them can tell. */
  change(put: readonly Lease[], removed: readonly Lease[]): RouteChange | null {
    if (this.ambiguous || [...put, ...removed].some(({ subnet }) => isOdd(subnet))) return null;
    const routes: Route[] = [];
    const gone: Cidr4[] = [];
    for (const { subnet } of removed) {
      this.complaints.delete(formatSubnetKey(subnet));
      if (subnet.v4 !== null) gone.push(subnet.v4);
    }
    for (const lease of put) {
      const route = this.routeTo(lease, this.complaints);
      if (route !== null) routes.push(route);
      else if (lease.subnet.v4 !== null) gone.push(lease.subnet.v4);
    }
    return { put: routes, removed: gone };
  }

  private routeTo(lease: Lease, before: ReadonlyMap<string, string>): Route | null {
    const { subnet, attrs } = lease;
    if (subnet.v4 !== null && attrs.publicIp !== 0) {
      return { destination: subnet.v4, address: attrs.publicIp, port: this.portOf(lease, before) };
    }
    const reason =
      subnet.v4 === null ? 'it has no IPv4 subnet' : `its public IP is ${formatIp4(attrs.publicIp)}`;
    this.complain(subnet, `ignoring the lease ${formatSubnet(subnet)}: ${reason}`, before);
    return null;
  }

  private portOf({ subnet, attrs }: Lease, before: ReadonlyMap<string, string>): number {
    try {
      const port = ownPortOf(attrs) ?? this.networkPort;
      if (this.complaints.size > 0) this.complaints.delete(formatSubnetKey(subnet));
      return port;
    } catch (error) {
      const problem = `the lease ${formatSubnet(subnet)} has no usable port (${messageOf(error)})`;
      this.complain(subnet, `${problem}; using ${this.networkPort}`, before);
      return this.networkPort;
    }
  }

  private complain(subnet: LeaseSubnet, text: string, before: ReadonlyMap<string, string>): void {
    const key = formatSubnetKey(subnet);
    if (before.get(key) !== text && this.limit.allows('leases that make no sense')) log.warning(text);
    this.complaints.set(key, text);
  }
}

/** A subnet whose key is not the only one for its IPv4 prefix: with host bits, or with an IPv6 part. */
function isOdd({ v4, v6 }: LeaseSubnet): boolean {
  return v6 !== null || v4?.equals(v4.network()) === false;
}
