/** The TUN device on the host: what it should be like, and how it gets there again when somebody has changed it. */
import { nativeErrorCode } from '../dataplane.js';
import { FlannelError, messageOf } from '../errors.js';
import type { Cidr4 } from '../ip.js';
import { log } from '../log.js';
import type { HostNetwork, Link, Rtnetlink } from '../netlink/rtnetlink.js';
import type { Repairs } from './repairs.js';

const INNER_HEADERS = 60; // IPv4 and TCP with timestamps, rounded up
const MOST_PAYLOAD = 65535 - 28; // of a run of datagrams: what is left beside IPv4 and UDP headers

/** What the kernel says when the device has changed since it was looked at: an announcement of that is on its way. */
const OVERTAKEN = ['ENODEV', 'ENETDOWN'];

/** The part of a netlink client that changes things. */
export type LinkControl = Pick<Rtnetlink, 'bringUp' | 'setGsoMaxSize' | 'addAddress' | 'addRoute'>;

/** One thing about the device that has to be right. */
interface Aspect {
  readonly what: string;
  readonly right: boolean;
  /** False where something else stands in its place, which is left alone. @throws NativeError */
  mend(netlink: LinkControl): boolean;
}

export interface DeviceSettings {
  readonly name: string;
  /** The host's own address on the overlay. */
  readonly address: Cidr4;
  /** All that is reached through the device. */
  readonly network: Cidr4;
  /** Bytes that fit into one packet of the overlay. */
  readonly mtu: number;
}

export class OverlayDevice {
  /** The kernel's number for it: another device of its name has another one. 0 before `configure`. */
  private linkIndex = 0;
  private routeIsTaken = false;
  private lastFailure = '';

  constructor(
    private settings: DeviceSettings,
    private readonly repairs: Repairs,
  ) {}

  get name(): string {
    return this.settings.name;
  }

  get mtu(): number {
    return this.settings.mtu;
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
    this.explained(() => {
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
        netlink.setGsoMaxSize(this.linkIndex, gsoMaxSize(mtu));
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
      const code = nativeErrorCode(error);
      if (code === undefined) throw error;
      const text = `cannot restore ${aspect.what} of ${this.name}, trying on: ${messageOf(error)} (${code})`;
      if (!OVERTAKEN.includes(code) && text !== this.lastFailure) log.error(text);
      this.lastFailure = text;
      return 'failed';
    }
  }

  /** In the order in which the kernel takes them: routes need a link that is up. */
  private aspects(link: Link, host: HostNetwork): Aspect[] {
    const { address, network, mtu } = this.settings;
    const { index } = link;
    const superPacket = gsoMaxSize(mtu);
    return [
      {
        what: `address ${address.toString()}`,
        right: host.addresses.some(
          ({ linkIndex, ip, length }) =>
            linkIndex === index && ip === address.ip && length === address.length,
        ),
        mend: (netlink) => {
          netlink.addAddress(index, address);
          return true;
        },
      },
      {
        what: 'gso_max_size',
        right: (link.gsoMaxSize ?? superPacket) === superPacket,
        mend: (netlink) => {
          netlink.setGsoMaxSize(index, superPacket);
          return true;
        },
      },
      {
        what: link.mtu === mtu ? 'state up' : `MTU ${mtu}`,
        right: link.up && link.mtu === mtu,
        mend: (netlink) => {
          netlink.bringUp(index, mtu);
          return true;
        },
      },
      {
        what: `route ${network.toString()}`,
        right: host.routes.some(
          ({ linkIndex, destination, length }) =>
            linkIndex === index && destination === network.ip && length === network.length,
        ),
        mend: (netlink) => this.addRoute(index, netlink),
      },
    ];
  }

  /** A route that is there already is left alone, but not without a word: it decides where the packets go. */
  private addRoute(linkIndex: number, netlink: LinkControl): boolean {
    const { network } = this.settings;
    try {
      netlink.addRoute(network, linkIndex);
      this.routeIsTaken = false;
      return true;
    } catch (error) {
      if (nativeErrorCode(error) !== 'EEXIST') throw error;
      if (!this.routeIsTaken) {
        const route = network.toString();
        log.warning(
          `there is another route to ${route}, so ${this.name} gets no packets until that is deleted ` +
            `(\`ip route del ${route}\`)`,
        );
      }
      this.routeIsTaken = true;
      return false;
    }
  }

  /** Puts cause and remedy in place of an errno. */
  private explained(step: () => void): void {
    try {
      step();
    } catch (error) {
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

/**
 * A super-packet of at most this size, each of its segments with headers of its own, fits into one datagram run of
 * 64 KB; one of the kernel's default size would take two.
 */
function gsoMaxSize(mtu: number): number {
  const segments = Math.max(1, Math.floor(MOST_PAYLOAD / mtu));
  return segments * (mtu - INNER_HEADERS);
}
