/** Says when the host's links, IPv4 addresses or routes have changed. What has changed, its user reads anew. */
import { openNetlinkEvents } from '../dataplane.js';
import type { Cidr4 } from '../ip.js';
import { Alarm, sleep } from '../retry.js';
import { readAnnouncement } from './rtnetlink.js';
import type { RouteEntry } from './rtnetlink.js';

// linux/rtnetlink.h
const RTNLGRP = { LINK: 1, IPV4_IFADDR: 5, IPV4_ROUTE: 7 } as const;

/** One change makes several announcements, and a network manager several changes. */
const SETTLE_MS = 50;

export class NetworkMonitor {
  private readonly alarm = new Alarm();
  private readonly events: ReturnType<typeof openNetlinkEvents>;

  /** @param network the overlay: of all routes, only its own and default ones count */
  constructor(private readonly network: Cidr4) {
    this.events = openNetlinkEvents('route', Object.values(RTNLGRP), () => {
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
    if (announcement.about !== 'route') return true;
    return announcement.route !== null && this.concerns(announcement.route);
  }

  private concerns({ destination, length }: RouteEntry): boolean {
    return length === 0 || (length === this.network.length && destination === this.network.ip);
  }
}
