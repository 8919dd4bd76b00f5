/** The TUN device on the host: what it should be like, and how it gets there again when somebody has changed it. */
import { nativeErrorCode } from '../dataplane.js';
import type { Cidr, Ip } from '../address.js';
import { codeOf, FlannelError, messageOf } from '../errors.js';
import { log } from '../log.js';
import type { Address, HostNetwork, Link, LinkIpv6, RouteEntry, Rtnetlink } from '../netlink/rtnetlink.js';
import { hasIpv6, writeSysctl } from '../sysctl.js';
import type { Repairs } from './repairs.js';

const INNER_HEADERS = 60; // IPv4 and TCP with timestamps, rounded up
const INNER_HEADERS_V6 = 80; // the same of IPv6
/**
 * Packets that may wait in each queue of the device: what 10,000 a second bring in 0.2 s, in which the device may pass to
 * another process.
 */
const QUEUE_LENGTH = 2000;
const MOST_PAYLOAD = 65535 - 28; // of a run of datagrams: what is left beside IPv4 and UDP headers

/** What the kernel says when the device has changed since it was looked at: an announcement of that is on its way. */
const OVERTAKEN = ['ENODEV', 'ENETDOWN'];

/** The part of a netlink client that changes things. */
export type LinkControl = Pick<
  Rtnetlink,
  'bringUp' | 'setGsoMaxSize' | 'setQueueLength' | 'omitLinkLocal' | 'addAddress' | 'addRoute'
>;

/** One thing about the device that has to be right. */
interface Aspect {
  readonly what: string;
  readonly right: boolean;
  /** False where something else stands in its place, which is left alone. @throws NativeError */
  mend(netlink: LinkControl): boolean;
}

/** What the device has of one address family. */
export interface DeviceFamily {
  /** The host's own address on the overlay. */
  readonly address: Cidr;
  /** All that is reached through the device. */
  readonly network: Cidr;
}

export interface DeviceSettings {
  readonly name: string;
  /** IPv4 before IPv6. */
  readonly families: readonly DeviceFamily[];
  /** Bytes that fit into one packet of the overlay; 1280 at least with IPv6, which the kernel gives no smaller link. */
  readonly mtu: number;
}

export class OverlayDevice {
  /** The kernel's number for it: another device of its name has another one. 0 before `configure`. */
  private linkIndex = 0;
  /** Those that somebody else has a route to. */
  private readonly taken = new Set<Cidr>();
  private readonly ipv6: boolean;
  private lastFailure = '';

  constructor(
    private settings: DeviceSettings,
    private readonly repairs: Repairs,
    /** Allows IPv6 on a device. @throws Error of node:fs */
    private readonly allowIpv6 = (name: string) => {
      writeSysctl(`net/ipv6/conf/${name}/disable_ipv6`, 0);
    },
  ) {
    this.ipv6 = settings.families.some(({ address }) => typeof address.ip !== 'number');
  }

  get name(): string {
    return this.settings.name;
  }

  get mtu(): number {
    return this.settings.mtu;
  }

  /** Whether it carries IPv6. */
  get hasIpv6(): boolean {
    return this.ipv6;
  }

  isAmong(links: readonly Link[]): boolean {
    return links.some(({ index }) => index === this.linkIndex);
  }

  /**
   * Makes everything right on a device that was opened just now.
   * @throws FlannelError with the remedy.
   */
  configure(host: HostNetwork, netlink: LinkControl): void {
    const link = host.links.find(({ name }) => name === this.name);
    if (link === undefined)
      throw new FlannelError(`the TUN device ${this.name} went away while it was set up`);
    this.linkIndex = link.index;
    if (this.ipv6 && !hasIpv6()) {
      throw new FlannelError(
        `the network has IPv6, but this kernel has not: take ipv6.disable=1 from its command line and load the module ` +
          'ipv6, or set EnableIPv6 in the network config to false',
      );
    }
    this.explained(() => {
      if (link.queueLength !== QUEUE_LENGTH) netlink.setQueueLength(link.index, QUEUE_LENGTH);
      for (const aspect of this.aspects(link, host)) if (!aspect.right) aspect.mend(netlink);
    });
  }

  /**
   * Changes the MTU, in bytes; of a device that is not there, that which it will have.
   * @throws FlannelError; everything is as before then.
   */
  resize(mtu: number, netlink: LinkControl): void {
    this.explained(() => {
      try {
        netlink.setGsoMaxSize(this.linkIndex, this.gsoMaxSize(mtu));
        netlink.bringUp(this.linkIndex, mtu);
      } catch (error) {
        if (nativeErrorCode(error) !== 'ENODEV') throw error;
      }
    });
    this.settings = { ...this.settings, mtu };
  }

  /**
   * Mends what is not right any more and logs it, all of it in one line. Idempotent.
   * @returns false when something is left that should be tried again in a while.
   */
  reconcile(host: HostNetwork, netlink: LinkControl): boolean {
    const link = host.links.find(({ index }) => index === this.linkIndex);
    if (link === undefined) return false;
    const mended: string[] = [];
    let complete = true;
    for (const aspect of this.aspects(link, host)) {
      if (aspect.right) continue;
      const outcome = this.repairs.allow(this.name, aspect.what) ? this.attempt(aspect, netlink) : 'failed';
      if (outcome === 'failed') complete = false;
      if (outcome !== 'mended') continue;
      this.repairs.count(aspect.what);
      mended.push(aspect.what);
    }
    if (mended.length > 0) log.warning(`${this.name} was changed by somebody; restored ${mended.join(', ')}`);
    if (complete) this.lastFailure = '';
    return complete;
  }

  private attempt(aspect: Aspect, netlink: LinkControl): 'mended' | 'taken' | 'failed' {
    try {
      return aspect.mend(netlink) ? 'mended' : 'taken';
    } catch (error) {
      const code = nativeErrorCode(error) ?? codeOf(error);
      if (code === undefined) throw error;
      const text = `cannot restore ${aspect.what} of ${this.name}, trying on: ${messageOf(error)} (${code})`;
      if (!OVERTAKEN.includes(code) && text !== this.lastFailure) log.error(text);
      this.lastFailure = text;
      return 'failed';
    }
  }

  /** In the order in which the kernel takes them: routes need a link that is up. */
  private aspects(link: Link, host: HostNetwork): Aspect[] {
    const { families, mtu } = this.settings;
    const { index } = link;
    const superPacket = this.gsoMaxSize(mtu);
    const [v4, v6] = [false, true].map((wanted) =>
      families.filter(({ address }) => (typeof address.ip !== 'number') === wanted),
    );
    return [
      ...(v4 ?? []).map(({ address }) => addressAspect(address, index, host)),
      {
        what: 'gso_max_size',
        right: (link.gsoMaxSize ?? superPacket) === superPacket,
        mend: (netlink) => {
          netlink.setGsoMaxSize(index, superPacket);
          return true;
        },
      },
      ...(this.ipv6 && link.ipv6 !== null ? this.ipv6Aspects(index, link.ipv6) : []),
      {
        what: link.mtu === mtu ? 'state up' : `MTU ${mtu}`,
        right: link.up && link.mtu === mtu,
        mend: (netlink) => {
          netlink.bringUp(index, mtu);
          return true;
        },
      },
      // The kernel takes these away from a link that goes down or becomes too small.
      ...(v6 ?? []).map(({ address }) => addressAspect(address, index, host)),
      ...families.map(({ network }) => this.routeAspect(network, index, host)),
    ];
  }

  private ipv6Aspects(linkIndex: number, { disabled, linkLocal }: LinkIpv6): Aspect[] {
    return [
      {
        what: 'disable_ipv6 0',
        right: !disabled,
        mend: () => {
          this.allowIpv6(this.name);
          return true;
        },
      },
      {
        what: 'addr_gen_mode none', // such addresses would go nowhere, but the kernel asks for routers from them
        right: !linkLocal,
        mend: (netlink) => {
          netlink.omitLinkLocal(linkIndex);
          return true;
        },
      },
    ];
  }

  private routeAspect(network: Cidr, linkIndex: number, { routes, v6 }: HostNetwork): Aspect {
    const isOurs = (route: RouteEntry<Ip>) =>
      route.linkIndex === linkIndex && route.destination === network.ip && route.length === network.length;
    return {
      what: `route ${network.toString()}`,
      right: routes.some(isOurs) || (v6?.routes ?? []).some(isOurs),
      mend: (netlink) => this.addRoute(network, linkIndex, netlink),
    };
  }

  /** A route that is there already is left alone, but not without a word: it decides where the packets go. */
  private addRoute(network: Cidr, linkIndex: number, netlink: LinkControl): boolean {
    try {
      netlink.addRoute(network, linkIndex);
      this.taken.delete(network);
      return true;
    } catch (error) {
      if (nativeErrorCode(error) !== 'EEXIST') throw error;
      if (!this.taken.has(network)) {
        const route = network.toString();
        const ip = typeof network.ip === 'number' ? 'ip' : 'ip -6';
        log.warning(
          `there is another route to ${route}, so ${this.name} gets no packets until that is deleted ` +
            `(\`${ip} route del ${route}\`)`,
        );
      }
      this.taken.add(network);
      return false;
    }
  }

  /**
   * A super-packet of at most this size, each of its segments with headers of its own, fits into one datagram run of
   * 64 KB; one of the kernel's default size would take two.
   */
  private gsoMaxSize(mtu: number): number {
    const segments = Math.max(1, Math.floor(MOST_PAYLOAD / mtu));
    return segments * (mtu - (this.ipv6 ? INNER_HEADERS_V6 : INNER_HEADERS));
  }

  /** Puts cause and remedy in place of an errno. */
  private explained(step: () => void): void {
    try {
      step();
    } catch (error) {
      if (codeOf(error) === 'EROFS' || codeOf(error) === 'EACCES') {
        throw new FlannelError(
          `IPv6 is disabled on ${this.name} and cannot be enabled (${messageOf(error)}): set ` +
            'net.ipv6.conf.default.disable_ipv6 to 0 on this host before flanneld starts',
          { cause: error },
        );
      }
      const code = nativeErrorCode(error);
      if (code === undefined) throw error;
      const remedy =
        code === 'EPERM' ? ': CAP_NET_ADMIN is missing; run as root or grant the capability' : '';
      throw new FlannelError(`cannot set up the TUN device ${this.name} (${messageOf(error)})${remedy}`, {
        cause: error,
      });
    }
  }
}

function addressAspect(address: Cidr, linkIndex: number, { addresses, v6 }: HostNetwork): Aspect {
  const isOurs = (there: Address<Ip>) =>
    there.linkIndex === linkIndex && there.ip === address.ip && there.length === address.length;
  return {
    what: `address ${address.toString()}`,
    right: addresses.some(isOurs) || (v6?.addresses ?? []).some(isOurs),
    mend: (netlink) => {
      netlink.addAddress(linkIndex, address);
      return true;
    },
  };
}
