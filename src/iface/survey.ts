/** The host as far as it matters for the choice of an interface, at one moment. */
import { nativeErrorCode } from '../dataplane.js';
import { messageOf } from '../errors.js';
import type { Watched } from '../netlink/monitor.js';
import { readHostNetwork, withNetlink } from '../netlink/rtnetlink.js';
import type { HostNetwork, Rtnetlink, Way } from '../netlink/rtnetlink.js';
import { readChoice } from './choice.js';
import type { Addresses, InterfaceChoice, Stack } from './choice.js';

export interface SurveyedHost extends HostNetwork {
  /** The way to `--iface-can-reach`; null where that is not given. */
  readonly reach: Reach | null;
}

export type Reach =
  | { readonly linkIndex: number; readonly source: Addresses }
  /** Why there is no way. */
  | { readonly refusal: string };

/** @throws NativeError; FlannelError for a choice that makes no sense */
export function surveyHost(choice: InterfaceChoice, stack: Stack): SurveyedHost {
  const target = reachTarget(choice);
  const host = readHostNetwork(stack.enableIPv6);
  return { ...host, reach: target && withNetlink((netlink) => lookUp(target, netlink)) };
}

/** What the choice depends on beyond links, IPv4 addresses and default routes. */
export function watchedBy(choice: InterfaceChoice, { enableIPv6 }: Stack): Watched {
  return { ipv6: enableIPv6, reach: reachTarget(choice) };
}

/** The same without a link and what belongs to it. */
export function without(host: SurveyedHost, linkIndex: number): SurveyedHost {
  const isOther = (entry: { readonly linkIndex: number | null }) => entry.linkIndex !== linkIndex;
  const { reach, v6 } = host;
  return {
    links: host.links.filter(({ index }) => index !== linkIndex),
    addresses: host.addresses.filter(isOther),
    routes: host.routes.filter(isOther),
    v6: v6 && { addresses: v6.addresses.filter(isOther), routes: v6.routes.filter(isOther) },
    reach:
      reach !== null && 'linkIndex' in reach && reach.linkIndex === linkIndex
        ? { refusal: 'the way there leads into the overlay itself' }
        : reach,
  };
}

function reachTarget(choice: InterfaceChoice): Addresses | null {
  for (const rule of readChoice(choice).rules) if (rule.kind === 'reach') return rule.ip;
  return null;
}

function lookUp(target: Addresses, netlink: Rtnetlink): Reach {
  try {
    if (target.v4 !== null) {
      const way = netlink.lookUpRoute(target.v4);
      return described(way, { v4: way.source, v6: null });
    }
    const way = netlink.lookUpRoute6(target.v6 ?? '::');
    return described(way, { v4: null, v6: way.source });
  } catch (error) {
    const code = nativeErrorCode(error);
    if (code === undefined) throw error;
    return { refusal: `the kernel has no route to it (${code}: ${messageOf(error)})` };
  }
}

function described({ linkIndex, local }: Way<unknown>, source: Addresses): Reach {
  if (local) return { refusal: 'it is an address of this host; name one beyond it' };
  if (linkIndex === null) return { refusal: 'the route to it has no single interface' };
  return { linkIndex, source };
}
