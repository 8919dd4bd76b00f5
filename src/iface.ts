/**
 * Which interface carries the traffic between hosts, under which address it is bound, and which address other
 * hosts are told.
 */
import { FlannelError, messageOf } from './errors.js';
import { formatIp4, parseIp4 } from './ip.js';
import type { Ip4 } from './ip.js';
import { log } from './log.js';
import type { Address, HostNetwork, Link } from './netlink/rtnetlink.js';

export interface ExternalInterface {
  readonly name: string;
  readonly linkIndex: number;
  /** Bytes. */
  readonly mtu: number;
  /** What the socket is bound to. */
  readonly address: Ip4;
  /** What other hosts send to. */
  readonly publicIp: Ip4;
  /** The `--iface` that chose it, or null. */
  readonly pinnedBy: string | null;
}

export interface InterfaceChoice {
  /** `--iface`, names or IPs in the order of preference. */
  readonly iface: readonly string[];
  /** `--public-ip`, or empty. */
  readonly publicIp: string;
}

interface Candidate {
  readonly link: Link;
  readonly address: Ip4;
}

const SCOPE_GLOBAL = 0;
const SCOPE_LINK = 253;
const IFA_F_TEMPORARY = 0x01;
const IFA_F_DEPRECATED = 0x20;
const IFA_F_PERMANENT = 0x80;

/**
 * Without `--iface` the interface that owns `--public-ip`, else that of the default route.
 * @throws FlannelError that says what was looked for and what there is.
 */
export function selectInterface(choice: InterfaceChoice, host: HostNetwork): ExternalInterface {
  const publicIp = readPublicIp(choice);
  const pinned = choice.iface.length > 0 ? firstMatch(choice.iface, host) : null;
  const candidate = pinned?.candidate ?? byRule(publicIp, host);
  const external = describeExternal(candidate, publicIp, pinned?.iface ?? null);
  log.info(`Using interface with name ${external.name} and address ${formatIp4(external.address)}`);
  if (publicIp === undefined) {
    log.info(`Defaulting external address to interface address (${formatIp4(external.address)})`);
  }
  log.info(`Using ${formatIp4(external.publicIp)} as external address`);
  return external;
}

/**
 * Where the interface selected before is now: what the same choice would select, but an `--iface` that was taken
 * is never given up for another one, an address is kept while it is usable, and without a default route the
 * interface is.
 * @throws FlannelError when there is no address to be bound to.
 */
export function followInterface(
  current: ExternalInterface,
  choice: InterfaceChoice,
  host: HostNetwork,
): ExternalInterface {
  const publicIp = readPublicIp(choice);
  const { pinnedBy } = current;
  const candidate =
    pinnedBy === null ? byRuleFrom(current, publicIp, host) : byIface(pinnedBy, host, current);
  return describeExternal(candidate, publicIp, pinnedBy);
}

function readPublicIp(choice: InterfaceChoice): Ip4 | undefined {
  const publicIp = choice.publicIp === '' ? undefined : parseIp4(choice.publicIp);
  if (choice.publicIp !== '' && publicIp === undefined) {
    throw new FlannelError(`invalid public IP address: ${choice.publicIp}; write --public-ip=192.0.2.1`);
  }
  return publicIp;
}

function describeExternal(
  { link, address }: Candidate,
  publicIp: Ip4 | undefined,
  pinnedBy: string | null,
): ExternalInterface {
  if (link.mtu === 0) throw new FlannelError(`failed to determine the MTU of interface ${link.name}`);
  const { name, index: linkIndex, mtu } = link;
  return { name, linkIndex, mtu, address, publicIp: publicIp ?? address, pinnedBy };
}

/** What is taken without `--iface`. */
function byRule(publicIp: Ip4 | undefined, host: HostNetwork, current?: ExternalInterface): Candidate {
  // A public IP that no interface owns is the address of a NAT in front of this host.
  const owner = publicIp === undefined ? undefined : byAddress(publicIp, host);
  return owner ?? byDefaultRoute(host, current);
}

/** The same at run time, where having no default route, or a useless one, is no reason to leave. */
function byRuleFrom(current: ExternalInterface, publicIp: Ip4 | undefined, host: HostNetwork): Candidate {
  try {
    return byRule(publicIp, host, current);
  } catch (error) {
    const link = host.links.find(({ name }) => name === current.name);
    if (link === undefined) throw error;
    return withAddress(link, host, current);
  }
}

function firstMatch(wanted: readonly string[], host: HostNetwork): { iface: string; candidate: Candidate } {
  for (const iface of wanted) {
    try {
      return { iface, candidate: byIface(iface, host) };
    } catch (error) {
      log.info(`Could not find valid interface matching ${iface}: ${messageOf(error)}`);
    }
  }
  throw new FlannelError(
    'Failed to find interface to use that matches the interfaces and/or regexes provided ' +
      `(--iface=${wanted.join(' --iface=')}); there is ${describe(host)}`,
  );
}

function byIface(iface: string, host: HostNetwork, current?: ExternalInterface): Candidate {
  const ip = parseIp4(iface);
  if (ip !== undefined) {
    const owner = byAddress(ip, host);
    if (owner === undefined) {
      throw new FlannelError(`error looking up interface ${iface}: no interface with given IP found`);
    }
    return owner;
  }
  const link = host.links.find(({ name }) => name === iface);
  if (link === undefined) throw new FlannelError(`error looking up interface ${iface}: no such interface`);
  return withAddress(link, host, current);
}

function byAddress(ip: Ip4, host: HostNetwork): Candidate | undefined {
  const linkIndex = host.addresses.find((address) => address.ip === ip)?.linkIndex;
  const link = host.links.find(({ index }) => index === linkIndex);
  return link && { link, address: ip };
}

function byDefaultRoute(host: HostNetwork, current?: ExternalInterface): Candidate {
  const route = host.routes.find(({ length, destination }) => length === 0 && destination === 0);
  if (route === undefined) {
    throw new FlannelError(
      `unable to find default route: choose the interface with --iface; there is ${describe(host)}`,
    );
  }
  const link = host.links.find(({ index }) => index === route.linkIndex);
  if (link === undefined) {
    throw new FlannelError(
      'found default route but could not determine its interface (it may have several): choose one with --iface',
    );
  }
  return withAddress(link, host, current);
}

/** The address of `current` where the link has it, so that a new address beside it moves nothing; else the best. */
function withAddress(link: Link, host: HostNetwork, current?: ExternalInterface): Candidate {
  const usable = addressesOf(link, host);
  const address = usable.find(({ ip }) => ip === current?.address) ?? usable[0];
  if (address === undefined) {
    throw new FlannelError(
      `interface ${link.name} has no usable IPv4 address: give it one or choose another`,
    );
  }
  return { link, address: address.ip };
}

/** The usable addresses of a link, best first; the kernel's order decides between equals. */
function addressesOf(link: Link, host: HostNetwork): Address[] {
  const rank = ({ scope, flags }: Address) =>
    (scope === SCOPE_GLOBAL ? 0 : 4) +
    ((flags & IFA_F_PERMANENT) !== 0 ? 0 : 2) +
    ((flags & IFA_F_TEMPORARY) !== 0 ? 1 : 0);
  return host.addresses
    .filter(({ linkIndex }) => linkIndex === link.index)
    .filter(({ scope, ip }) => (scope === SCOPE_GLOBAL || scope === SCOPE_LINK) && ip >>> 24 !== 127)
    .filter(({ flags }) => (flags & IFA_F_DEPRECATED) === 0)
    .sort((a, b) => rank(a) - rank(b));
}

function describe(host: HostNetwork): string {
  return host.links
    .map((link) => {
      const ips = host.addresses
        .filter(({ linkIndex }) => linkIndex === link.index)
        .map(({ ip }) => formatIp4(ip));
      return `${link.name}:[${ips.join(' ')}]`;
    })
    .join(', ');
}
