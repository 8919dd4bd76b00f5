/** What each rule for the external interface finds on a host. */
import { FlannelError, messageOf } from '../errors.js';
import { formatIp4 } from '../ip.js';
import { LEAST_IPV6_MTU } from '../ip6.js';
import type { Link, RouteEntry } from '../netlink/rtnetlink.js';
import { describeAddresses, describeHost, ownerOf, usable4, usable6 } from './addresses.js';
import type { Addresses, Rule, Stack, Wishes } from './choice.js';
import type { SurveyedHost } from './survey.js';

export interface Candidate extends Addresses {
  readonly link: Link;
}

export interface Search {
  readonly wishes: Wishes;
  readonly stack: Stack;
  readonly host: SurveyedHost;
  /** Where this host is now, if it is anywhere: that is kept where it fits. */
  readonly current: (Addresses & { readonly name: string }) | null;
}

const NONE: Addresses = { v4: null, v6: null };
/** The names that the udp backend gives its devices. */
const OVERLAY_DEVICE = /^flannel\d+$/;

/** @throws FlannelError that says why the rule finds nothing. */
export function byRule(rule: Rule, search: Search): Candidate {
  switch (rule.kind) {
    case 'name':
      return byName(rule.text, search);
    case 'address':
      return byAddress(rule.text, rule.ip, search);
    case 'regex':
      return byRegex(rule, search);
    case 'reach':
      return byReach(search);
  }
}

/** What is taken where no flag names an interface: the one with the public IP, else that of the default route. */
export function byDefault(search: Search): Candidate {
  const { v4, v6 } = search.wishes.publicIp;
  const { enableIPv4, enableIPv6 } = search.stack;
  // A public IP that no interface owns is the address of a NAT in front of this host.
  for (const ip of [
    { v4: enableIPv4 ? v4 : null, v6: null },
    { v4: null, v6: enableIPv6 ? v6 : null },
  ]) {
    if (ownerOf(ip, search.host) !== undefined) {
      return byAddress(describeIp(ip), ip, search);
    }
  }
  return complete(byDefaultRoute(search), NONE, search);
}

/**
 * The addresses of `link` for each family of the stack: the given one, else the current one where the link still has
 * it, so that a new address beside it moves nothing, else the best. @throws FlannelError where there is none.
 */
export function complete(link: Link, given: Addresses, search: Search): Candidate {
  const { stack, host, current } = search;
  const v4 = stack.enableIPv4 ? (given.v4 ?? prefer(usable4(link, host), current?.v4)) : null;
  const v6 = stack.enableIPv6 ? (given.v6 ?? prefer(usable6(link, host), current?.v6)) : null;
  for (const [family, ip] of Object.entries({ IPv4: v4, IPv6: v6 })) {
    if (ip !== undefined) continue;
    const there = describeAddresses(link, host);
    throw new FlannelError(
      `interface ${link.name} has no usable ${family} address${there === '' ? '' : ` (${there})`}: ` +
        `${family === 'IPv6' ? tooNarrow([link]) : ''}give it one or choose another`,
    );
  }
  return { link, v4: v4 ?? null, v6: v6 ?? null };
}

function describeIp({ v4, v6 }: Addresses): string {
  return v4 === null ? (v6 ?? '') : formatIp4(v4);
}

function prefer<Ip>(usable: readonly Ip[], current: Ip | null | undefined): Ip | undefined {
  return usable.find((ip) => ip === current) ?? usable[0];
}

function byName(name: string, search: Search): Candidate {
  const link = search.host.links.find((each) => each.name === name);
  if (link === undefined) throw new FlannelError(`error looking up interface ${name}: no such interface`);
  return complete(link, NONE, search);
}

/** The other family's address is the public one, where an interface has that, or any. */
function byAddress(text: string, ip: Addresses, search: Search): Candidate {
  const { wishes, stack, host } = search;
  const link = ownerOf(ip, host);
  if (link === undefined || !(ip.v4 === null ? stack.enableIPv6 : stack.enableIPv4)) {
    throw new FlannelError(`error looking up interface ${text}: no interface with given IP found`);
  }
  if (!stack.enableIPv4 || !stack.enableIPv6) return complete(link, ip, search);
  const other = ip.v4 === null ? { ...NONE, v4: wishes.publicIp.v4 } : { ...NONE, v6: wishes.publicIp.v6 };
  const otherLink = ownerOf(other, host);
  if (otherLink === undefined) return complete(link, ip, search);
  if (otherLink.index !== link.index) {
    throw new FlannelError(
      `the public address of the other family is on ${otherLink.name}, but ${text} on ${link.name}: ` +
        'give both to one interface',
    );
  }
  return complete(link, { v4: ip.v4 ?? other.v4 ?? null, v6: ip.v6 ?? other.v6 ?? null }, search);
}

/** By address first, over all interfaces, then by name; the current interface before any other. */
function byRegex(rule: Rule & { kind: 'regex' }, search: Search): Candidate {
  const { host, current } = search;
  const matches = (text: string) => rule.pattern.matcher(text).find();
  // A flanneld that runs, or has left its device behind, is no way to other hosts.
  const links = host.links.filter(({ name, tun }) => tun === null || !OVERLAY_DEVICE.test(name));
  const rejected: string[] = [];
  for (const among of [links.filter(({ name }) => name === current?.name), links]) {
    for (const link of among) {
      const found = byMatchingAddress(link, matches, search);
      if (found !== null) return found;
    }
    for (const link of among.filter(({ name }) => matches(name))) {
      try {
        return complete(link, NONE, search);
      } catch (error) {
        rejected.push(messageOf(error));
      }
    }
  }
  const reasons = [...new Set(rejected)].map((reason) => `; ${reason}`).join('');
  throw new FlannelError(
    `could not match pattern ${rule.text} to any of the available network interfaces ` +
      `(${describeHost({ ...host, links })})${reasons}`,
  );
}

/** Null unless an address of every family of the stack matches. */
function byMatchingAddress(link: Link, matches: (text: string) => boolean, search: Search): Candidate | null {
  const { stack, host, current } = search;
  const v4 = prefer(
    usable4(link, host).filter((ip) => matches(formatIp4(ip))),
    current?.v4,
  );
  const v6 = prefer(usable6(link, host).filter(matches), current?.v6);
  if ((stack.enableIPv4 && v4 === undefined) || (stack.enableIPv6 && v6 === undefined)) return null;
  return complete(link, { v4: v4 ?? null, v6: v6 ?? null }, search);
}

function byReach(search: Search): Candidate {
  const { host, stack, current } = search;
  const { reach } = host;
  if (reach === null || 'refusal' in reach) {
    throw new FlannelError(
      `failed to get ifcanreach based interface: ${reach?.refusal ?? 'it was not asked for'}`,
    );
  }
  const link = linkOf(reach.linkIndex, host);
  const source = {
    v4: stack.enableIPv4 ? reach.source.v4 : null,
    v6: stack.enableIPv6 ? reach.source.v6 : null,
  };
  // The kernel's preference among the addresses of the interface is a reason to choose, but none to change.
  return complete(link, link.name === current?.name ? NONE : source, search);
}

function byDefaultRoute({ stack, host }: Search): Link {
  const v4 = stack.enableIPv4 ? throughDefault('default route', host.routes, host) : null;
  const v6 = stack.enableIPv6
    ? throughDefault(
        'default v6 route',
        host.v6?.routes ?? [],
        host,
        tooNarrow(v4 === null ? host.links : [v4]),
      )
    : null;
  if (v4 !== null && v6 !== null && v4.index !== v6.index) {
    throw new FlannelError(
      `v6 default route interface ${v6.name} must be the same with v4 default route interface ${v4.name}: ` +
        'choose one with --iface',
    );
  }
  const link = v4 ?? v6;
  if (link === null) throw new FlannelError('none defined stack: neither IPv4 nor IPv6 is enabled');
  return link;
}

/**
 * @param what is looked for, in stock flannel's words
 * @param hint why it may be missing and what helps, or empty
 */
function throughDefault(
  what: string,
  routes: readonly RouteEntry<unknown>[],
  host: SurveyedHost,
  hint = '',
): Link {
  const route = routes.find(
    ({ length, destination }) => length === 0 && (destination === 0 || destination === '::'),
  );
  if (route === undefined) {
    throw new FlannelError(
      `unable to find ${what}: ${hint}choose the interface with --iface; there is ${describeHost(host)}`,
    );
  }
  if (route.linkIndex === null) {
    throw new FlannelError(
      `found ${what} but could not determine its interface (it may have several): choose one with --iface; ` +
        `there is ${describeHost(host)}`,
    );
  }
  return linkOf(route.linkIndex, host);
}

/** Which of `links` have no IPv6 for their MTU, and what helps; empty where it is none. */
function tooNarrow(links: readonly Link[]): string {
  const narrow = links.filter(
    ({ name, up, mtu }) => up && mtu < LEAST_IPV6_MTU && !OVERLAY_DEVICE.test(name),
  );
  const [first] = narrow;
  if (first === undefined) return '';
  const names = narrow.map(({ name, mtu }) => `${name} (MTU ${mtu})`).join(', ');
  return (
    `the kernel has no IPv6 on interfaces with an MTU below ${LEAST_IPV6_MTU}, such as ${names}: ` +
    `ip link set dev ${first.name} mtu ${LEAST_IPV6_MTU}, then add its IPv6 address and route again, or `
  );
}

/** @throws FlannelError for one that has gone since the host was looked at */
function linkOf(linkIndex: number, host: SurveyedHost): Link {
  const link = host.links.find(({ index }) => index === linkIndex);
  if (link === undefined) {
    throw new FlannelError('could not determine the interface of a route: choose one with --iface');
  }
  return link;
}
