/** Keeps the backend where the host's network is: address, MTU and state of the external interface, the own device. */
import type { BackendNetwork } from './backend/backend.js';
import { nativeErrorCode } from './dataplane.js';
import { FlannelError, messageOf } from './errors.js';
import { describeAddress, followInterface } from './iface/external-interface.js';
import type { ExternalInterface, InterfaceChoice } from './iface/external-interface.js';
import { without } from './iface/survey.js';
import type { SurveyedHost } from './iface/survey.js';
import { formatIp4 } from './ip.js';
import { log } from './log.js';
import type { NetworkMonitor } from './netlink/monitor.js';

/** When something that did not work is tried again, if nothing changes before. */
const RETRY_MS = 1000;

/** Runs until `signal` fires. `survey` looks at the host. */
export async function followHost(
  monitor: NetworkMonitor,
  follower: HostFollower,
  survey: () => SurveyedHost,
  signal: AbortSignal,
): Promise<void> {
  for (let settled = true; await monitor.next(settled ? null : RETRY_MS, signal);) {
    try {
      settled = await follower.follow(survey);
    } catch (error) {
      const code = nativeErrorCode(error);
      if (code === undefined) throw error;
      log.error(`cannot look at the host's network, trying again: ${messageOf(error)} (${code})`);
      settled = false;
    }
  }
}

/** Where the backend is. */
export interface Whereabouts {
  readonly external: ExternalInterface;
  /** Why there is no address to be bound to at the moment; null while there is one. */
  readonly lost: string | null;
  /** Whether the link of the external interface carries packets. */
  readonly running: boolean;
}

export class HostFollower {
  /** Why there is nowhere to be, as long as there is not. */
  private lost: string | null = null;
  private running = true;
  /** Why the last move failed, so that the backend may be half-way to anywhere. */
  private lastFailure: string | null = null;

  /**
   * @param external where `network` is at the start
   * @param onMoved called after it has moved, or may have: `network` tells where to
   */
  constructor(
    private readonly choice: InterfaceChoice,
    private external: ExternalInterface,
    private readonly network: Pick<BackendNetwork, 'device' | 'mtu' | 'moveTo' | 'repair'>,
    private readonly onMoved: () => Promise<void>,
  ) {}

  get whereabouts(): Whereabouts {
    const { external, lost, running } = this;
    return { external, lost, running };
  }

  /**
   * Compares the host with where the backend is and does what is needed, one log line each.
   * @param read the host at the moment of the call
   * @returns false when something did not work that should be tried again in a while.
   */
  async follow(read: () => SurveyedHost): Promise<boolean> {
    const host = read();
    const now = this.locate(withoutDevice(host, this.network.device));
    this.reportState(now, host);
    const isThere = now === null || (this.lastFailure === null && same(now, this.external));
    if (isThere) return this.network.repair(host);
    const moved = await this.moveTo(now);
    return this.network.repair(read()) && moved; // the move has changed the device
  }

  /** Null while there is no address to be bound to: what can be done without one goes on. */
  private locate(host: SurveyedHost): ExternalInterface | null {
    let found: ExternalInterface;
    try {
      found = followInterface(this.external, this.choice, host);
    } catch (error) {
      if (!(error instanceof FlannelError)) throw error;
      if (this.lost === null) {
        log.warning(
          `lost ${describeAddress(this.external)} on ${this.external.name}, and there is no other (${error.message}); ` +
            'going on as far as possible until there is an address again',
        );
      }
      this.lost = error.message;
      return null;
    }
    if (this.lost !== null && isSamePlace(found, this.external)) {
      log.info(`${describeAddress(found)} is back on ${found.name}`);
    }
    this.lost = null;
    return found;
  }

  private reportState(now: ExternalInterface | null, host: SurveyedHost): void {
    const link = host.links.find(({ index }) => index === now?.linkIndex);
    if (now === null || link === undefined || link.running === this.running) return;
    this.running = link.running;
    if (link.running) log.info(`${link.name} is up again`);
    else log.warning(`${link.name} is down: no packets from or to other hosts until it is up again`);
  }

  private async moveTo(next: ExternalInterface): Promise<boolean> {
    const before = this.external;
    const mtuBefore = this.network.mtu;
    try {
      this.network.moveTo(next);
    } catch (error) {
      if (!(error instanceof FlannelError)) throw error;
      const text = `cannot follow to ${describe(next)}, trying on: ${error.message}`;
      if (text !== this.lastFailure) log.error(text);
      this.lastFailure = text;
      await this.onMoved(); // it may be half-way there
      return false;
    }
    this.lastFailure = null;
    this.external = next;
    const changes: string[] = [];
    if (!isSamePlace(next, before)) {
      changes.push(`Using ${describe(next)}, until now ${describe(before)}`);
    }
    if (next.publicIp !== null && next.publicIp !== before.publicIp) {
      changes.push(`using ${formatIp4(next.publicIp)} as external address`);
    }
    if (next.publicIpV6 !== null && next.publicIpV6 !== before.publicIpV6) {
      changes.push(`using ${next.publicIpV6} as external v6 address`);
    }
    if (this.network.mtu !== mtuBefore) {
      changes.push(
        `MTU of ${next.name} is ${next.mtu}, so that of ${this.network.device} is ${this.network.mtu} now`,
      );
    }
    // None for another link of the same name, and for the way back from a move that failed.
    if (changes.length > 0) log.info(changes.join('; '));
    await this.onMoved();
    return true;
  }
}

/** The own device is never the way to other hosts, even where the default route leads into it. */
function withoutDevice(host: SurveyedHost, device: string): SurveyedHost {
  const own = host.links.find(({ name }) => name === device);
  return own === undefined ? host : without(host, own.index);
}

function describe(external: ExternalInterface): string {
  return `interface with name ${external.name} and address ${describeAddress(external)}`;
}

function isSamePlace(a: ExternalInterface, b: ExternalInterface): boolean {
  return a.name === b.name && a.address === b.address && a.addressV6 === b.addressV6;
}

function same(a: ExternalInterface, b: ExternalInterface): boolean {
  return (
    isSamePlace(a, b) &&
    a.linkIndex === b.linkIndex &&
    a.mtu === b.mtu &&
    a.publicIp === b.publicIp &&
    a.publicIpV6 === b.publicIpV6
  );
}
