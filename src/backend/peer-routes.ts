import type { Cidr, Ip } from '../address.js';
import type { Route } from '../dataplane.js';
import { messageOf } from '../errors.js';
import { Cidr4, formatIp4 } from '../ip.js';
import { carriesIpv6, formatPublicIp, nextHopOf, ownPortOf, probesMtuOf } from '../lease/identity.js';
import { formatSubnet } from '../lease/lease.js';
import type { Lease, LeaseSubnet } from '../lease/lease.js';
import { formatSubnetKey } from '../lease/subnet-key.js';
import { log } from '../log.js';
import { LineLimit } from '../logging/limit.js';
import type { UdpSettings } from './udp-settings.js';

/** What becomes of a forwarding table. */
export interface RouteChange {
  readonly put: readonly Route[];
  readonly removed: readonly Cidr[];
}

/** What of a network decides where packets are sent. */
export type RouteSettings = Pick<UdpSettings, 'networkPort' | 'underlay' | 'carries'>;

/** Where the packets for each peer's subnets are sent. Remembers what it has complained about. */
export class PeerRoutes {
  /** By subnet key. */
  private complaints = new Map<string, string>();
  /** Which lease each prefix is of. */
  private claims = new Map<number | string, LeaseSubnet>();
  /** Whether two leases have one prefix, so that the end of one is not the end of the route. */
  private ambiguous = false;

  /** @param limit how many lines are written, however many leases there are */
  constructor(
    private readonly settings: RouteSettings,
    private readonly limit = new LineLimit(),
  ) {}

  /** All routes. A lease that makes no sense is a warning, once as long as it stays so. */
  of(peers: readonly Lease[]): Route[] {
    const before = this.complaints;
    this.complaints = new Map();
    this.claims = new Map();
    this.ambiguous = false;
    for (const { subnet } of peers) {
      for (const cidr of this.prefixesOf(subnet)) {
        const key = prefixKey(cidr);
        this.ambiguous ||= this.claims.has(key);
        this.claims.set(key, subnet);
      }
    }
    return peers.flatMap((lease) => this.routesTo(lease, before));
  }

  /** What changes about the routes; null when only all of them can tell. */
  change(put: readonly Lease[], removed: readonly Lease[]): RouteChange | null {
    if (this.ambiguous) return null;
    const claims = new Map<number | string, LeaseSubnet | null>();
    for (const { subnet } of removed) {
      for (const cidr of this.prefixesOf(subnet)) claims.set(prefixKey(cidr), null);
    }
    for (const { subnet } of put) {
      for (const cidr of this.prefixesOf(subnet)) {
        const key = prefixKey(cidr);
        const claim = claims.has(key) ? claims.get(key) : this.claims.get(key);
        if (claim !== null && claim !== undefined && !sameSubnet(claim, subnet)) return null;
        claims.set(key, subnet);
      }
    }
    for (const [key, subnet] of claims) {
      if (subnet === null) this.claims.delete(key);
      else this.claims.set(key, subnet);
    }
    for (const { subnet } of removed) this.complaints.delete(formatSubnetKey(subnet));
    const gone = removed.flatMap(({ subnet }) => this.prefixesOf(subnet));
    const routes = put.flatMap((lease) => {
      const made = this.routesTo(lease, this.complaints);
      const isMade = (cidr: Cidr) => made.some(({ destination }) => destination === cidr);
      gone.push(...this.prefixesOf(lease.subnet).filter((cidr) => !isMade(cidr)));
      return made;
    });
    return { put: routes, removed: gone };
  }

  private prefixesOf({ v4, v6 }: LeaseSubnet): Cidr[] {
    const { carries } = this.settings;
    const prefixes: Cidr[] = [];
    if (carries.v4 && v4 !== null) prefixes.push(v4);
    if (carries.v6 && v6 !== null) prefixes.push(v6);
    return prefixes;
  }

  private routesTo(lease: Lease, before: ReadonlyMap<string, string>): Route[] {
    const { subnet, attrs } = lease;
    const prefixes = this.prefixesOf(subnet);
    const problems: string[] = [];
    const usable = prefixes.filter((cidr) => typeof cidr.ip === 'number' || carriesIpv6(attrs));
    const address = nextHopOf(attrs, this.settings.underlay);
    if (address === null)
      problems.push(`ignoring the lease ${formatSubnet(subnet)}: ${this.withoutHop(lease)}`);
    else if (usable.length < prefixes.length) problems.push(withoutIpv6(lease));
    else if (prefixes.length === 0)
      problems.push(
        `ignoring the lease ${formatSubnet(subnet)}: it has no subnet of this network's families`,
      );
    const routes = address === null ? [] : this.routesVia(address, usable, lease, problems);
    this.complain(subnet, problems.join('; '), before);
    return routes;
  }

  private routesVia(address: Ip, usable: readonly Cidr[], lease: Lease, problems: string[]): Route[] {
    const port = this.portOf(lease, problems);
    const hop = { address, port, ...(probesMtuOf(lease.attrs) ? { answersProbes: true } : {}) };
    return usable.map((destination) => ({ destination, ...hop }));
  }

  private withoutHop({ attrs }: Lease): string {
    return this.settings.underlay === 'ipv4'
      ? `its public IP is ${formatIp4(attrs.publicIp)}`
      : "it has no public IPv6 address, over which this network's datagrams go";
  }

  private portOf({ subnet, attrs }: Lease, problems: string[]): number {
    const { networkPort } = this.settings;
    try {
      return ownPortOf(attrs) ?? networkPort;
    } catch (error) {
      problems.push(
        `the lease ${formatSubnet(subnet)} has no usable port (${messageOf(error)}); using ${networkPort}`,
      );
      return networkPort;
    }
  }

  /** @param text empty where there is nothing to complain about (any more) */
  private complain(subnet: LeaseSubnet, text: string, before: ReadonlyMap<string, string>): void {
    if (text === '' && this.complaints.size === 0) return;
    const key = formatSubnetKey(subnet);
    if (text === '') {
      this.complaints.delete(key);
      return;
    }
    if (before.get(key) !== text && this.limit.allows('leases that make no sense')) log.warning(text);
    this.complaints.set(key, text);
  }
}

function withoutIpv6({ subnet, attrs }: Lease): string {
  return (
    `no IPv6 to the host ${formatPublicIp(attrs)}: its lease ${formatSubnet(subnet)} does not say that it carries any ` +
    '(BackendV6Data), and a udp backend of stock flannel does not; its IPv4 is not affected'
  );
}

function sameSubnet(a: LeaseSubnet, b: LeaseSubnet): boolean {
  const same = (one: Cidr | null, other: Cidr | null) =>
    one?.ip === other?.ip && one?.length === other?.length;
  return a === b || (same(a.v4, b.v4) && same(a.v6, b.v6));
}

/** Equal for equal prefixes; host bits do not count. */
function prefixKey(cidr: Cidr): number | string {
  if (cidr instanceof Cidr4) return cidr.network().ip * 64 + cidr.length;
  // Nearly all leases are like this, and there may be 65,536 of them.
  const words = cidr.ip.split(':').length - 2;
  const hasNoHostBits = cidr.ip.endsWith('::') && words * 16 <= cidr.length;
  return (hasNoHostBits ? cidr : cidr.network()).toString();
}
