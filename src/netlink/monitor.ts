/** Says when the host's links, addresses or routes have changed. What has changed, its user reads anew. */
import { openNetlinkEvents } from '../dataplane.js';
import type { Cidr, Ip } from '../address.js';
import { Cidr4 } from '../ip.js';
import type { Ip4 } from '../ip.js';
import { sharePrefix6 } from '../ip6.js';
import type { Ip6 } from '../ip6.js';
import { Alarm, sleep } from '../retry.js';
import { readAnnouncement } from './rtnetlink.js';
import type { RouteEntry } from './rtnetlink.js';

// linux/rtnetlink.h
const RTNLGRP = { LINK: 1, IPV4_IFADDR: 5, IPV4_ROUTE: 7 } as const;
const RTNLGRP_IPV6 = { IFADDR: 9, ROUTE: 11 } as const;

/** One change makes several announcements, and a network manager several changes. */
const SETTLE_MS = 50;

/** What matters beside links, IPv4 addresses and default routes. */
export interface Watched {
  /** Whether IPv6 addresses and routes do. */
  readonly ipv6: boolean;
  /** An address of which every route to it does; null for none. */
  readonly reach: { readonly v4: Ip4 | null; readonly v6: Ip6 | null } | null;
}

export class NetworkMonitor {
  private readonly alarm = new Alarm();
  private readonly events: ReturnType<typeof openNetlinkEvents>;

  /** @param networks the overlay: of all routes, only its own, default ones and those of `watched` count */
  constructor(
    private readonly networks: readonly Cidr[],
    private readonly watched: Watched = { ipv6: false, reach: null },
  ) {
    const ipv6 = watched.ipv6 || (watched.reach?.v6 ?? null) !== null;
    const groups = [...Object.values(RTNLGRP), ...(ipv6 ? Object.values(RTNLGRP_IPV6) : [])];
    this.events = openNetlinkEvents('route', groups, () => {
      this.read();
    });
    this.alarm.ring(); // for what happened before
  }

  /**
   * Resolves soon after something has changed since the last call, at the first call at once, and after `ms`
   * milliseconds anyway (null: never); false when `signal` fired.
   */
  async next(ms: number | null, signal: AbortSignal): Promise<boolean> {
    return (await this.alarm.wait(ms, signal)) && (await sleep(SETTLE_MS, signal));
  }

  /** Idempotent. */
  close(): void {
    this.events.close();
  }

  private read(): void {
    const { messages, overrun } = this.events.read();
    if (overrun || messages.some((message) => this.matters(message))) this.alarm.ring();
  }

  /** A host may have routes by the hundred thousand that come and go all day. */
  private matters(bytes: Uint8Array): boolean {
    const announcement = readAnnouncement(bytes);
    switch (announcement.about) {
      case 'link or address':
        return true;
      case 'route':
        return announcement.route !== null && this.concerns(announcement.route);
      case 'IPv6 route':
        return announcement.route !== null && this.concerns6(announcement.route);
    }
  }

  private concerns(route: RouteEntry): boolean {
    const reach = this.watched.reach?.v4 ?? null;
    if (reach !== null && new Cidr4(route.destination, route.length).contains(reach)) return true;
    return this.isDefaultOrOwn(route);
  }

  private concerns6(route: RouteEntry<Ip6>): boolean {
    const reach = this.watched.reach?.v6 ?? null;
    if (reach !== null && sharePrefix6(route.destination, reach, route.length)) return true;
    return this.isDefaultOrOwn(route);
  }

  private isDefaultOrOwn({ destination, length }: RouteEntry<Ip>): boolean {
    return length === 0 || this.networks.some((own) => own.length === length && own.ip === destination);
  }
}
