/**
 * Which interface carries the traffic between hosts, under which address it is bound, and which address other
 * hosts are told.
 */
import { FlannelError, messageOf } from '../errors.js';
import { formatIp4 } from '../ip.js';
import type { Ip4 } from '../ip.js';
import type { Ip6 } from '../ip6.js';
import { log } from '../log.js';
import { describeHost } from './addresses.js';
import { byDefault, byRule, complete } from './candidates.js';
import type { Candidate, Search } from './candidates.js';
import { readChoice } from './choice.js';
import type { InterfaceChoice, Stack, Wishes } from './choice.js';
import type { SurveyedHost } from './survey.js';

export type { InterfaceChoice, Stack } from './choice.js';

export interface ExternalInterface {
  readonly name: string;
  readonly linkIndex: number;
  /** Bytes. */
  readonly mtu: number;
  /** What the socket is bound to; null where the network has no IPv4. */
  readonly address: Ip4 | null;
  /** What other hosts send to; null where the network has no IPv4. */
  readonly publicIp: Ip4 | null;
  /** The same for IPv6, null where the network has none. */
  readonly addressV6: Ip6 | null;
  readonly publicIpV6: Ip6 | null;
  /** The flag that chose it, such as `--iface=eth0`; null for none. */
  readonly chosenBy: string | null;
}

export const IPV4_ONLY: Stack = { enableIPv4: true, enableIPv6: false };

/**
 * The first interface that a flag names; without such a flag the one that owns `--public-ip`, else that of the default
 * route.
 * @throws FlannelError that says what was looked for, what there is, and why it was not taken.
 */
export function selectInterface(
  choice: InterfaceChoice,
  host: SurveyedHost,
  stack: Stack = IPV4_ONLY,
): ExternalInterface {
  if (!stack.enableIPv4 && !stack.enableIPv6) {
    throw new FlannelError('none defined stack: set EnableIPv4 or EnableIPv6 in the network config to true');
  }
  const wishes = readChoice(choice);
  const search = { wishes, stack, host, current: null };
  const { candidate, flag } =
    wishes.rules.length > 0 ? firstMatch(search) : { candidate: byDefault(search), flag: null };
  const external = describeExternal(candidate, wishes, flag);
  tell(external, wishes);
  return external;
}

/**
 * Where the interface selected before is now: what the same choice would select, but one that a flag has named is never
 * given up for what another flag names, an address is kept while it is usable, and without a default route, or a way to
 * `--iface-can-reach`, the interface is.
 * @throws FlannelError when there is no address to be bound to.
 */
export function followInterface(
  current: ExternalInterface,
  choice: InterfaceChoice,
  host: SurveyedHost,
): ExternalInterface {
  const wishes = readChoice(choice);
  const { name, address: v4, addressV6: v6 } = current;
  const stack = { enableIPv4: v4 !== null, enableIPv6: v6 !== null };
  return describeExternal(
    follow({ wishes, stack, host, current: { name, v4, v6 } }, current),
    wishes,
    current.chosenBy,
  );
}

/** The addresses that an interface is used under. */
export function describeAddress({ address, addressV6 }: ExternalInterface): string {
  return [address === null ? [] : formatIp4(address), addressV6 ?? []].flat().join(' and ');
}

function follow(search: Search, { chosenBy, name }: ExternalInterface): Candidate {
  const rule = search.wishes.rules.find(({ flag }) => flag === chosenBy);
  if (rule !== undefined && rule.kind !== 'reach') return byRule(rule, search);
  try {
    return rule === undefined ? byDefault(search) : byRule(rule, search);
  } catch (error) {
    const link = search.host.links.find((each) => each.name === name);
    if (link === undefined) throw error;
    return complete(link, { v4: null, v6: null }, search);
  }
}

function firstMatch(search: Search): { candidate: Candidate; flag: string } {
  const rejected: string[] = [];
  for (const rule of search.wishes.rules) {
    try {
      return { candidate: byRule(rule, search), flag: rule.flag };
    } catch (error) {
      log.info(`Could not find valid interface matching ${rule.text}: ${messageOf(error)}`);
      rejected.push(`${rule.flag}: ${messageOf(error)}`);
    }
  }
  throw new FlannelError(
    'Failed to find interface to use that matches the interfaces and/or regexes provided ' +
      `(${rejected.join('; ')}); there is ${describeHost(search.host)}`,
  );
}

function describeExternal(
  { link, v4, v6 }: Candidate,
  { publicIp }: Wishes,
  chosenBy: string | null,
): ExternalInterface {
  if (link.mtu === 0) throw new FlannelError(`failed to determine the MTU of interface ${link.name}`);
  return {
    name: link.name,
    linkIndex: link.index,
    mtu: link.mtu,
    address: v4,
    publicIp: v4 === null ? null : (publicIp.v4 ?? v4),
    addressV6: v6,
    publicIpV6: v6 === null ? null : (publicIp.v6 ?? v6),
    chosenBy,
  };
}

function tell({ name, address, publicIp, addressV6, publicIpV6 }: ExternalInterface, wishes: Wishes): void {
  const say = (family: string, own: string, external: string, isGiven: boolean) => {
    log.info(`Using interface with name ${name} and ${family}address ${own}`);
    if (!isGiven) log.info(`Defaulting external ${family}address to interface address (${own})`);
    log.info(`Using ${external} as external ${family}address`);
  };
  const { v4, v6 } = wishes.publicIp;
  if (address !== null && publicIp !== null) say('', formatIp4(address), formatIp4(publicIp), v4 !== null);
  if (addressV6 !== null && publicIpV6 !== null) say('v6 ', addressV6, publicIpV6, v6 !== null);
}
