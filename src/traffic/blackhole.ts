/**
 * The blackhole route for the own subnet: what goes to none of its containers ends here, instead of wandering off by the
 * default route.
 */
import type { Cidr } from '../address.js';
import { nativeErrorCode, openNetlinkEvents } from '../dataplane.js';
import { messageOf } from '../errors.js';
import { log } from '../log.js';
import { isAboutRouteTo, readAnnouncement, Rtnetlink } from '../netlink/rtnetlink.js';
import { Alarm, sleep } from '../retry.js';

/** linux/rtnetlink.h. Routes that go with a link or an address are not announced themselves. */
const RTNLGRP = { LINK: 1, IPV4_IFADDR: 5, IPV4_ROUTE: 7, IPV6_IFADDR: 9, IPV6_ROUTE: 11 } as const;
const SETTLE_MS = 100;

/**
 * From `periodMs` on, which leaves the container runtime time to make its bridge, until `signal` fires. The route
 * stays.
 */
export async function keepBlackhole(subnet: Cidr, periodMs: number, signal: AbortSignal): Promise<void> {
  if (!(await sleep(periodMs, signal))) return;
  const alarm = new Alarm();
  alarm.ring();
  const events = openNetlinkEvents('route', Object.values(RTNLGRP), () => {
    const { messages, overrun } = events.read();
    if (overrun || messages.some((message) => mayConcern(subnet, message))) alarm.ring();
  });
  try {
    for (let done = true; await alarm.wait(done ? null : periodMs, signal);) {
      done = ensureBlackhole(subnet);
      if (!(await sleep(SETTLE_MS, signal))) return;
    }
  } finally {
    events.close();
  }
}

function mayConcern(subnet: Cidr, message: Uint8Array): boolean {
  return readAnnouncement(message).about === 'link or address' || isAboutRouteTo(subnet, message);
}

/** Withdrawn while there is another route to the subnet: of two equal ones the older wins, and that would be ours. */
function ensureBlackhole(subnet: Cidr): boolean {
  return attempt(`keep the blackhole route ${subnet.toString()}`, (netlink) => {
    const routes = netlink.routesTo(subnet);
    const ours = routes.includes('blackhole');
    const taken = routes.some((kind) => kind !== 'blackhole');
    if (ours === !taken) return true;
    if (taken) netlink.deleteBlackhole(subnet);
    else netlink.addBlackhole(subnet);
    log.info(`${taken ? 'Removed' : 'Added'} the blackhole route ${subnet.toString()}`);
    return true;
  });
}

/** @returns whether there was one. */
export function removeBlackhole(subnet: Cidr): boolean {
  return attempt(`remove the blackhole route ${subnet.toString()}`, (netlink) => {
    if (!netlink.routesTo(subnet).includes('blackhole')) return false;
    netlink.deleteBlackhole(subnet);
    log.info(`Removed the blackhole route ${subnet.toString()}`);
    return true;
  });
}

/** False, and a line in the log, when the kernel refuses. */
function attempt(what: string, action: (netlink: Rtnetlink) => boolean): boolean {
  const netlink = new Rtnetlink();
  try {
    return action(netlink);
  } catch (error) {
    const code = nativeErrorCode(error);
    if (code === undefined) throw error;
    log.error(`cannot ${what}: ${messageOf(error)} (${code})`);
    return false;
  } finally {
    netlink.close();
  }
}
