/** Which addresses of an interface can be used, and which of them first. */
import { formatIp4 } from '../ip.js';
import type { Ip4 } from '../ip.js';
import type { Ip6 } from '../ip6.js';
import type { Address, Link } from '../netlink/rtnetlink.js';
import type { Addresses } from './choice.js';
import type { SurveyedHost } from './survey.js';

// linux/rtnetlink.h, linux/if_addr.h
const SCOPE_GLOBAL = 0;
const SCOPE_LINK = 253;
const IFA_F_TEMPORARY = 0x01;
const IFA_F_DADFAILED = 0x08;
const IFA_F_DEPRECATED = 0x20;
const IFA_F_PERMANENT = 0x80;

/** Best first; the kernel's order decides between equals. */
export function usable4(link: Link, host: SurveyedHost): Ip4[] {
  return usable(link, host.addresses);
}

export function usable6(link: Link, host: SurveyedHost): Ip6[] {
  return usable(link, host.v6?.addresses ?? []);
}

/** The interface that has one of the addresses, usable or not. */
export function ownerOf({ v4, v6 }: Addresses, host: SurveyedHost): Link | undefined {
  const owner =
    v4 === null ? host.v6?.addresses.find(({ ip }) => ip === v6) : host.addresses.find(({ ip }) => ip === v4);
  return host.links.find(({ index }) => index === owner?.linkIndex);
}

/** `eth0:[192.168.77.1 10.0.0.1 (deprecated)], …`: what there is, and why what is left out is. */
export function describeHost(host: SurveyedHost): string {
  return host.links.map((link) => `${link.name}:[${describeAddresses(link, host)}]`).join(', ');
}

/** The addresses of an interface with what keeps each from being used. */
export function describeAddresses(link: Link, host: SurveyedHost): string {
  const texts = (addresses: readonly Address<Ip4 | Ip6>[]) =>
    addresses
      .filter(({ linkIndex }) => linkIndex === link.index)
      .map((address) => [textOf(address.ip), fault(address)].filter((word) => word !== null).join(' '));
  return [...texts(host.addresses), ...texts(host.v6?.addresses ?? [])].join(' ');
}

function usable<Ip extends Ip4 | Ip6>(link: Link, addresses: readonly Address<Ip>[]): Ip[] {
  const rank = ({ scope, flags }: Address<Ip>) =>
    (scope === SCOPE_GLOBAL ? 0 : 4) +
    ((flags & IFA_F_PERMANENT) !== 0 ? 0 : 2) +
    ((flags & IFA_F_TEMPORARY) !== 0 ? 1 : 0);
  return addresses
    .filter((address) => address.linkIndex === link.index && fault(address) === null)
    .sort((a, b) => rank(a) - rank(b))
    .map(({ ip }) => ip);
}

function fault({ ip, scope, flags }: Address<Ip4 | Ip6>): string | null {
  if (ip === '::1' || (typeof ip === 'number' && ip >>> 24 === 127)) return '(loopback)';
  if (scope !== SCOPE_GLOBAL && scope !== SCOPE_LINK) return `(scope ${scope}, neither global nor link)`;
  if ((flags & IFA_F_DEPRECATED) !== 0) return '(deprecated)';
  if ((flags & IFA_F_DADFAILED) !== 0) return '(duplicate)';
  return null;
}

function textOf(ip: Ip4 | Ip6): string {
  return typeof ip === 'number' ? formatIp4(ip) : ip;
}
