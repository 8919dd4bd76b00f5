/** The udp backend: every packet of the overlay travels as one UDP datagram, without a header of its own. */
import type { NetworkConfig } from '../config.js';
import { counters, Dataplane } from '../dataplane.js';
import type { PeerTraffic, Stats } from '../dataplane.js';
import { FlannelError } from '../errors.js';
import type { ExternalInterface } from '../iface/external-interface.js';
import type { Ip4 } from '../ip.js';
import type { Ip6 } from '../ip6.js';
import type { Lease, LeaseAttrs } from '../lease/lease.js';
import { log } from '../log.js';
import { LineLimit } from '../logging/limit.js';
import { readHostNetwork, withNetlink } from '../netlink/rtnetlink.js';
import type { HostNetwork } from '../netlink/rtnetlink.js';
import { sleep } from '../retry.js';
import type { Backend, BackendNetwork, BackendObservation, BackendOptions } from './backend.js';
import { OverlayDevice } from './device.js';
import type { DeviceSettings } from './device.js';
import type { Forwarder } from './forwarder.js';
import { PeerRoutes } from './peer-routes.js';
import { RefusalLog } from './refusals.js';
import { Repairs } from './repairs.js';
import { attrsAt, bindAddressOf, deviceFamilies, overlayMtu } from './udp-place.js';
import { readUdpSettings } from './udp-settings.js';
import type { UdpSettings } from './udp-settings.js';

const TUN_NAME = 'flannel%d';
const WATCH_MS = 1000;
const DROPS_EVERY = 10; // watch periods between two reports of drops
const MOST_FAILED = 5; // watch periods without a device after which the daemon gives up

/** See BackendFactory. */
export function createUdpBackend(
  config: NetworkConfig,
  external: ExternalInterface,
  options: BackendOptions,
): Backend {
  const settings = readUdpSettings(config, options);
  const mtu = overlayMtu(external, settings);
  const bindAddress = bindAddressOf(external, settings);
  return {
    attrs: attrsAt(external, settings),
    open({ subnet }) {
      const families = deviceFamilies(subnet, config);
      const addresses = families.map(({ address }) => address.ip);
      const dataplane = new Dataplane({
        ...settings.dataplane,
        tunName: TUN_NAME,
        clampMtu: settings.clampMss ? mtu : 0,
        bindAddress,
        port: settings.port,
        tunnelAddress: addresses.find((ip): ip is Ip4 => typeof ip === 'number') ?? 0,
        tunnelAddress6: addresses.find((ip): ip is Ip6 => typeof ip === 'string') ?? null,
      });
      try {
        const device = { name: dataplane.tunName, families, mtu };
        const network = new UdpNetwork(dataplane, device, settings, external);
        network.start();
        return network;
      } catch (error) {
        dataplane.close();
        throw error;
      }
    },
  };
}

export class UdpNetwork implements BackendNetwork {
  private readonly repairs = new Repairs();
  private readonly limit = new LineLimit();
  private readonly refusals = new RefusalLog((message) => {
    log.warning(message);
  });
  private readonly tun: OverlayDevice;
  private readonly routes: PeerRoutes;
  private reopenFailure: string | null = null;
  private backedOff = false;
  private begun = false;
  private stoodBy = false;

  constructor(
    private readonly dataplane: Forwarder,
    device: DeviceSettings,
    private readonly settings: UdpSettings,
    private external: ExternalInterface,
  ) {
    this.tun = new OverlayDevice(device, this.repairs);
    this.routes = new PeerRoutes(settings, this.limit);
  }

  get device(): string {
    return this.tun.name;
  }

  get mtu(): number {
    return this.tun.mtu;
  }

  get attrs(): LeaseAttrs {
    return attrsAt(this.external, this.settings);
  }

  observe(): BackendObservation {
    const { device, mtu } = this;
    const dataplane = this.dataplane.stats();
    const { port, networkPort, underlay, dataplane: told } = this.settings;
    const { features, queues, threads } = told;
    const plan = { port, networkPort, underlay, features, queues, threads };
    return { device, mtu, repairs: this.repairs.counts, failure: dataplane.failure, dataplane, plan };
  }

  peerTraffic(): readonly PeerTraffic[] {
    return this.dataplane.peers();
  }

  /** @throws FlannelError; the dataplane is the caller's to close then. */
  start(): void {
    this.configure();
    if (!this.dataplane.canSendIcmp) {
      log.warning('cannot open a raw socket, so no ICMP errors reach this host; CAP_NET_RAW allows it');
    }
    if (this.dataplane.inherited) {
      log.info('Another flanneld forwards; taking over from it as soon as all leases are known');
    } else {
      this.begin();
    }
  }

  setPeers(peers: readonly Lease[]): void {
    this.dataplane.setRoutes(this.routes.of(peers));
    if (this.begun) return;
    this.begin();
    log.info('Took over from the flanneld that ran before');
  }

  changePeers(put: readonly Lease[], removed: readonly Lease[]): boolean {
    const change = this.begun ? this.routes.change(put, removed) : null;
    if (change !== null) this.dataplane.changeRoutes(change.put, change.removed);
    return change !== null;
  }

  moveTo(external: ExternalInterface): void {
    const address = bindAddressOf(external, this.settings);
    if (address !== bindAddressOf(this.external, this.settings)) {
      this.dataplane.rebind(address, this.settings.port);
    }
    // The sockets are there now, so peers have to be told, whatever becomes of the MTU.
    this.external = external;
    const mtu = overlayMtu(external, this.settings);
    if (mtu === this.mtu) return;
    if (this.settings.clampMss) this.dataplane.clampMss(mtu);
    withNetlink((netlink) => {
      this.tun.resize(mtu, netlink);
    });
  }

  repair(host: HostNetwork): boolean {
    if (!this.tun.isAmong(host.links)) return this.reopen();
    return withNetlink((netlink) => this.tun.reconcile(host, netlink));
  }

  async run(signal: AbortSignal): Promise<void> {
    let before = this.drops();
    let features = this.dataplane.stats().features;
    let failed = 0;
    for (let period = 1; await sleep(WATCH_MS, signal); period++) {
      const stats = this.dataplane.stats();
      if (this.isOver(stats)) return;
      this.refusals.report(this.dataplane.takeRefusals());
      this.learnPathMtus();
      const { failure, features: left } = stats;
      for (const report of this.limit.reports()) log.warning(report);
      for (const feature of features.filter((name) => !left.includes(name))) {
        log.warning(`the kernel refuses ${feature} at run time; going on without it`);
      }
      features = left;
      failed = failure === null || this.backedOff ? 0 : failed + 1;
      if (failure !== null && failed === MOST_FAILED) throw this.givenUp(failure);
      if (failed === 1 && this.limit.allows('a dataplane thread stopped'))
        log.error(`a dataplane thread stopped (${failure ?? ''}); starting it again`);
      if (failure !== null) this.dataplane.restart();
      if (period % DROPS_EVERY !== 0 || !log.v(1).enabled) continue;
      const now = this.drops();
      const grown = [...now].filter(([name, count]) => count > (before.get(name) ?? 0));
      for (const [name, count] of grown) log.v(1).info(`${name}: ${count - (before.get(name) ?? 0)} packets`);
      before = now;
    }
  }

  close(): void {
    this.dataplane.close();
    const values = this.dataplane.stats().counters;
    log.info(`Dataplane counters: ${counters.map(({ name }, i) => `${name}=${values[i] ?? 0}`).join(' ')}`);
  }

  private begin(): void {
    this.dataplane.start();
    this.begun = true;
    log.info(`Dataplane features: ${this.dataplane.stats().features.join(', ') || 'none'}`);
  }

  /** Who forwards, and who would; true once this process does not any more. @throws FlannelError when it may not. */
  private isOver({ standing, standingReason, stoodBy }: Stats): boolean {
    if (stoodBy !== this.stoodBy) {
      log.info(
        stoodBy ? 'Another process stands by for this one' : 'No process stands by for this one any more',
      );
    }
    this.stoodBy = stoodBy;
    if (standing === 'deposed') {
      throw new FlannelError(
        `the flanneld that ran before took the dataplane back (${standingReason ?? 'without a reason'}) and goes on`,
      );
    }
    if (standing === 'handed over') log.info('Handed over to the next flanneld');
    return standing === 'handed over';
  }

  /** Where the kernel cannot be asked, such as while the address is gone, what was known of the paths stays. */
  private learnPathMtus(): void {
    try {
      this.dataplane.learnPathMtus(this.external.mtu);
    } catch (error) {
      if (!(error instanceof FlannelError)) throw error;
      log.v(1).info(`cannot ask for path MTUs: ${error.message}`);
    }
  }

  private configure(): void {
    withNetlink((netlink) => {
      this.tun.configure(readHostNetwork(this.tun.hasIpv6), netlink);
    });
  }

  /** A new device in place of one that somebody has deleted; false where that does not work now. */
  private reopen(): boolean {
    const what = 'by deleting it';
    this.backedOff = !this.repairs.allow(this.device, what);
    if (this.backedOff) return false;
    try {
      this.dataplane.reopenDevice();
      this.configure();
    } catch (error) {
      if (!(error instanceof FlannelError)) throw error;
      if (this.reopenFailure !== error.message && this.limit.allows('the device cannot be made again')) {
        log.error(`${this.device} was deleted by somebody and cannot be made again: ${error.message}`);
      }
      this.reopenFailure = error.message;
      return false;
    }
    this.repairs.count(what);
    this.reopenFailure = null;
    log.warning(`${this.device} was deleted by somebody; made it again`);
    return true;
  }

  private givenUp(failure: string): FlannelError {
    const reason = this.reopenFailure === null ? '' : `: ${this.reopenFailure}`;
    return new FlannelError(
      `the dataplane stopped (${failure}); was the TUN device ${this.device} deleted? Restart flanneld${reason}`,
    );
  }

  private drops(): Map<string, number> {
    const values = this.dataplane.stats().counters;
    const drops = counters.flatMap(({ name, role }, i) =>
      role === 'drop' ? [[name, values[i] ?? 0] as const] : [],
    );
    return new Map(drops);
  }
}
