/**
 * The host's traffic rules: which are wanted, how they get into the kernel, and how they stay there. They outlive the
 * daemon, as connections over it do.
 */
import type { Cidr } from '../address.js';
import type { NetworkConfig } from '../config.js';
import { nativeErrorCode } from '../dataplane.js';
import { FlannelError, messageOf } from '../errors.js';
import type { Options } from '../flags.js';
import { iptablesResyncMs } from '../flags.js';
import type { LeaseSubnet } from '../lease/lease.js';
import { log } from '../log.js';
import { Alarm, sleep } from '../retry.js';
import { readPreviousSubnets } from '../subnet/subnet-file.js';
import type { PreviousSubnets } from '../subnet/subnet-file.js';
import { keepBlackhole, removeBlackhole } from './blackhole.js';
import { checkBridgeFilter, warnWithoutForwarding } from './host-checks.js';
import { IptablesManager, removeIptablesRules } from './iptables.js';
import { NftablesManager, removeNftTables } from './nftables.js';
import { RepairLog } from './repair-log.js';
import { IncompleteRules } from './rule-manager.js';
import type { RuleManager, RuleManagerFactory } from './rule-manager.js';
import { FORWARD_CHAIN, MASQUERADE_CHAIN } from './rules.js';
import type { ChainName, OverlayFamily, RuleChoice } from './rules.js';
import { watchRuleset } from './ruleset-events.js';

/** Whoever changes rules makes several changes in a row. */
const SETTLE_MS = 50;
/** How long a look is from the next one at least, however often something changes. */
const PAUSE_MS = 1000;
/** When what was removed is looked for again. A predecessor that is about to end puts back what it misses before that. */
const TIDY_AGAIN_MS = 5000;

const MANAGERS: Readonly<Record<RuleManager['name'], RuleManagerFactory>> = {
  iptables: (versions, choice) => IptablesManager.open(versions, choice),
  nftables: (_, choice) => NftablesManager.open(choice),
};

export type TrafficOptions = Pick<
  Options,
  'ipMasq' | 'ipMasqFullyRandomDisable' | 'iptablesForwardRules' | 'iptablesResync' | 'ipBlackholeRoute'
>;

/** How the rules are. */
export interface TrafficStatus {
  /** Null where no rules are wanted. */
  readonly manager: RuleManager['name'] | null;
  /** They were complete when they were last looked at; false where that look failed. */
  readonly inPlace: boolean;
  /** How often somebody's changes were undone. */
  readonly repairs: number;
  readonly lastRepair: Date | null;
  /** Why the last look at the rules failed; null when it did not. */
  readonly lastError: string | null;
  /** Since when they are known to be incomplete, in milliseconds since the epoch; null while they are not. */
  readonly incompleteSince: number | null;
}

export class TrafficRules {
  private readonly alarm = new Alarm();
  private readonly repairLog = new RepairLog();
  private events: { close(): void } | null = null;
  private own: readonly Cidr[] = [];
  private inPlace = false;
  private lastError: string | null = null;
  private incompleteSince: number | null = null;
  /** When to look again for what is not wanted, by performance.now(); null when nothing was found the last time. */
  private tidyAt: number | null = null;
  private untidiness = '';

  private constructor(
    private readonly config: NetworkConfig,
    private readonly options: TrafficOptions,
    private readonly choice: RuleChoice,
    private readonly manager: RuleManager | null,
    private readonly resyncMs: number,
    /** What this host had when the subnet file was last written. */
    private readonly formerSubnets: readonly Cidr[],
  ) {}

  /**
   * Finds out whether this host can have the rules; changes nothing.
   * @param previous what the subnet file names
   * @throws FlannelError with the remedy when it cannot.
   */
  static async prepare(
    config: NetworkConfig,
    options: TrafficOptions,
    previous: PreviousSubnets,
  ): Promise<TrafficRules> {
    const resyncMs = iptablesResyncMs(options);
    const choice = {
      masquerade: options.ipMasq,
      forward: options.iptablesForwardRules,
      randomFully: !options.ipMasqFullyRandomDisable,
    };
    const wanted = choice.masquerade || choice.forward;
    if (wanted && !config.enableNFTables) checkBridgeFilter(config);
    const open = MANAGERS[config.enableNFTables ? 'nftables' : 'iptables'];
    const versions = overlayFamilies(config, null).map(({ version }) => version);
    const manager = wanted ? await open(versions, choice) : null;
    warnWithoutForwarding(config);
    return new TrafficRules(config, options, choice, manager, resyncMs, subnetsOf(previous));
  }

  get status(): TrafficStatus {
    const { inPlace, lastError, incompleteSince } = this;
    const { repairs, lastRepair } = this.repairLog;
    return { manager: this.manager?.name ?? null, inPlace, repairs, lastRepair, lastError, incompleteSince };
  }

  /**
   * Puts the rules for this host's subnet in place of those of any other subnet, network or manager.
   * @throws FlannelError when the kernel or the program refuses.
   */
  async install(subnet: LeaseSubnet): Promise<void> {
    this.own = [subnet.v4?.network() ?? [], subnet.v6?.network() ?? []].flat();
    if (this.manager !== null) {
      this.manager.want(overlayFamilies(this.config, subnet));
      try {
        await this.manager.ensure();
      } catch (error) {
        throw new FlannelError(`cannot set up the traffic rules: ${messageOf(error)}`, { cause: error });
      }
      this.inPlace = true;
      this.watch(this.manager);
    }
    await this.tidy(); // last, so that there is no moment without rules
  }

  /** Keeps the rules, and the blackhole route, as they should be until `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    const keeping = [this.keepRules(signal)];
    if (this.options.ipBlackholeRoute) {
      keeping.push(...this.own.map((subnet) => keepBlackhole(subnet, this.resyncMs, signal)));
    }
    await Promise.all(keeping);
  }

  /** Stops listening; the rules stay. Idempotent. */
  close(): void {
    this.events?.close();
    this.events = null;
  }

  private watch(manager: RuleManager): void {
    if (!manager.announced) return;
    try {
      this.events = watchRuleset(
        (change) => manager.concerns(change),
        () => {
          this.alarm.ring();
        },
      );
      this.alarm.ring(); // for what happened before
    } catch (error) {
      if (nativeErrorCode(error) === undefined) throw error;
      log.warning(`looking at the traffic rules every ${this.resyncMs} ms: ${messageOf(error)}`);
    }
  }

  private async keepRules(signal: AbortSignal): Promise<void> {
    while (await this.alarm.wait(this.nextLookMs(), signal)) {
      if (!(await sleep(SETTLE_MS, signal))) return;
      if (this.tidyAt !== null && performance.now() >= this.tidyAt) await this.tidy();
      await this.look();
      if (!(await sleep(PAUSE_MS, signal))) return;
    }
  }

  /** Null: only when the kernel announces something. */
  private nextLookMs(): number | null {
    const nothingToSee = this.manager === null || (this.events !== null && this.lastError === null);
    const ms = Math.min(
      nothingToSee ? Infinity : this.resyncMs - SETTLE_MS - PAUSE_MS,
      this.tidyAt === null ? Infinity : this.tidyAt - performance.now(),
    );
    return ms === Infinity ? null : Math.max(0, ms);
  }

  private async look(): Promise<void> {
    if (this.manager === null) return;
    try {
      const damages = await this.manager.ensure();
      if (damages.length > 0) this.repairLog.repaired(damages);
      if (this.lastError !== null) log.info('the traffic rules are complete again');
      this.inPlace = true;
      this.lastError = null;
      this.incompleteSince = null;
    } catch (error) {
      if (!(error instanceof FlannelError)) throw error;
      if (error.message !== this.lastError) {
        log.error(`cannot look after the traffic rules, trying on: ${error.message}`);
      }
      this.inPlace = false;
      this.lastError = error.message;
      if (error instanceof IncompleteRules) this.incompleteSince ??= Date.now();
    }
  }

  /**
   * Removes what is not wanted (any more). A predecessor that is still at work may put it back, so this is repeated
   * until there is nothing.
   */
  private async tidy(): Promise<void> {
    const stays = (former: Cidr) =>
      this.options.ipBlackholeRoute &&
      this.own.some(({ ip, length }) => ip === former.ip && length === former.length);
    this.tidyAt = performance.now() + TIDY_AGAIN_MS;
    const blackholes = this.formerSubnets.filter((former) => !stays(former) && removeBlackhole(former));
    try {
      const kept = this.manager?.name === 'iptables' ? this.keptChains() : undefined;
      const removed = await removeIptablesRules(kept);
      if (this.manager?.name !== 'nftables') removed.push(...(await removeNftTables()));
      if (removed.length > 0)
        log.info(`Removed traffic rules that are not wanted any more: ${removed.join(', ')}`);
      this.untidiness = '';
      if (removed.length === 0 && blackholes.length === 0) this.tidyAt = null;
    } catch (error) {
      if (!(error instanceof FlannelError)) throw error;
      if (error.message !== this.untidiness) log.warning(`cannot remove old traffic rules: ${error.message}`);
      this.untidiness = error.message;
    }
  }

  private keptChains(): (version: OverlayFamily['version']) => readonly ChainName[] {
    const { masquerade, forward } = this.choice;
    const chains = [...(masquerade ? [MASQUERADE_CHAIN] : []), ...(forward ? [FORWARD_CHAIN] : [])];
    const versions = overlayFamilies(this.config, null).map(({ version }) => version);
    return (version) => (versions.includes(version) ? chains : []);
  }
}

/** The address families that the config names a network of, and with `subnet` this host's part of them. */
function overlayFamilies(
  { network, ipv6Network }: NetworkConfig,
  subnet: LeaseSubnet | null,
): OverlayFamily[] {
  const family = (version: 4 | 6, whole: Cidr, own: Cidr | null | undefined): OverlayFamily => ({
    version,
    network: whole.toString(),
    subnet: own?.network().toString() ?? null,
  });
  return [
    ...(network.length === 0 ? [] : [family(4, network, subnet?.v4)]),
    ...(ipv6Network === null ? [] : [family(6, ipv6Network, subnet?.v6)]),
  ];
}

/** Removes every rule and route of ours, whatever made it. @throws FlannelError */
export async function removeTrafficRules(subnetFile: string): Promise<void> {
  const removed = [...(await removeIptablesRules()), ...(await removeNftTables())];
  if (removed.length > 0) log.info(`Removed the traffic rules ${removed.join(', ')}`);
  for (const subnet of subnetsOf(readPreviousSubnets(subnetFile))) removeBlackhole(subnet);
}

function subnetsOf({ v4, v6 }: PreviousSubnets): Cidr[] {
  return [v4 ?? [], v6 ?? []].flat();
}
