/** The rules by way of iptables, in whichever of its two variants the host uses. */
import { FlannelError, messageOf } from '../errors.js';
import { log } from '../log.js';
import { IncompleteRules } from './rule-manager.js';
import type { RuleManager } from './rule-manager.js';
import {
  describeDamage,
  isComplete,
  isPresent,
  parseSaved,
  presenceOf,
  removalText,
  restoreText,
} from './iptables-save.js';
import type { Presence, SavedTable } from './iptables-save.js';
import type { RulesetChange } from './ruleset-events.js';
import { findProgram, runProgram } from './programs.js';
import { FORWARD_CHAIN, iptablesChains, MASQUERADE_CHAIN } from './rules.js';
import type { ChainName, ChainRules, OverlayFamily, RuleChoice } from './rules.js';

const OUR_CHAINS: readonly ChainName[] = [MASQUERADE_CHAIN, FORWARD_CHAIN];
const VARIANTS = ['iptables', 'iptables-legacy', 'iptables-nft'] as const;
/** Another program may hold the lock of iptables for so long. */
const LOCK_SECONDS = 30;

type Version = OverlayFamily['version'];

/** What `iptables --version` tells. */
export interface IptablesVersion {
  /** It knows MASQUERADE --random-fully, and iptables-restore --wait. */
  readonly since162: boolean;
  /** By way of nf_tables, so that the kernel announces changes. */
  readonly nft: boolean;
}

/** @throws FlannelError where it is no such text. */
export function parseIptablesVersion(text: string): IptablesVersion {
  const [, major, minor, patch, variant] = /v(\d+)\.(\d+)\.(\d+)(?:\S* \((\w+)\))?/.exec(text) ?? [];
  if (major === undefined) throw new FlannelError(`iptables --version says ${JSON.stringify(text.trim())}`);
  const number = (Number(major) * 1000 + Number(minor)) * 1000 + Number(patch);
  return { since162: number >= 1_006_002, nft: variant === 'nf_tables' };
}

/** iptables-save and iptables-restore of one address family. */
class Family {
  private constructor(
    private readonly save: string,
    private readonly restore: string,
    private readonly restoreArgs: readonly string[],
  ) {}

  /** @param variant of iptables; null where it is not on this host */
  static find(variant: string, version: Version, wait: boolean): Family | null {
    const stem = version === 4 ? variant : variant.replace(/^ip/, 'ip6');
    const [save, restore] = [findProgram(`${stem}-save`), findProgram(`${stem}-restore`)];
    if (save === null || restore === null) return null;
    return new Family(save, restore, ['--noflush', ...(wait ? [`--wait=${LOCK_SECONDS}`] : [])]);
  }

  /** Reads one table, or all that there are. */
  async read(table: string | null): Promise<Map<string, SavedTable>> {
    return parseSaved(await runProgram(this.save, table === null ? [] : ['-t', table]));
  }

  async write(text: string): Promise<void> {
    log.v(6).info(`iptables-restore: ${JSON.stringify(text)}`);
    await runProgram(this.restore, this.restoreArgs, text);
  }
}

export class IptablesManager implements RuleManager {
  readonly name = 'iptables';
  /** By family and chain: how this version of iptables writes the rules, where it is not as we do. */
  private readonly renderings = new Map<string, readonly string[]>();

  private chains = new Map<Version, readonly ChainRules[]>();

  private constructor(
    readonly announced: boolean,
    private readonly families: ReadonlyMap<Version, Family>,
    private readonly choice: RuleChoice,
  ) {}

  /** @throws FlannelError with the remedy when a program is missing. */
  static async open(versions: readonly Version[], choice: RuleChoice): Promise<IptablesManager> {
    const { since162, nft } = await versionOf('iptables');
    const families = new Map<Version, Family>();
    for (const version of versions) {
      const family = Family.find('iptables', version, since162);
      if (family === null) throw missing(version === 4 ? 'iptables-restore' : 'ip6tables-restore');
      families.set(version, family);
    }
    return new IptablesManager(nft, families, { ...choice, randomFully: choice.randomFully && since162 });
  }

  want(overlay: readonly OverlayFamily[]): void {
    this.chains = new Map(overlay.map((family) => [family.version, iptablesChains(family, this.choice)]));
  }

  async ensure(): Promise<string[]> {
    const damages: string[] = [];
    for (const [version, family] of this.families) {
      const chains = this.chains.get(version) ?? [];
      if (chains.length === 0) continue;
      const damage = await this.ensureFamily(family, version, chains);
      damages.push(...damage.map((text) => (version === 4 ? text : `${text} (IPv6)`)));
    }
    return damages;
  }

  concerns({ version, table, chain }: RulesetChange): boolean {
    return (this.chains.get(version) ?? []).some(
      (ours) => ours.table === table && (chain === null || chain === ours.chain || chain === ours.parent),
    );
  }

  private async ensureFamily(
    family: Family,
    version: Version,
    chains: readonly ChainRules[],
  ): Promise<string[]> {
    const damaged = (await this.look(family, chains)).filter(
      ([chain, found]) => !this.isComplete(found, version, chain),
    );
    if (damaged.length === 0) return [];
    const damages = damaged.map(([chain, found]) => describeDamage(found, chain));
    try {
      await family.write(restoreText(damaged));
    } catch (error) {
      throw new IncompleteRules(damages, error);
    }
    for (const [chain, found] of await this.look(family, chains)) this.learn(found, version, chain);
    return damages;
  }

  private async look(
    family: Family,
    chains: readonly ChainRules[],
  ): Promise<(readonly [ChainRules, Presence])[]> {
    const tables = new Set(chains.map(({ table }) => table));
    const saved = await family.read(tables.size === 1 ? ([...tables][0] ?? null) : null);
    return chains.map((chain) => [chain, presenceOf(saved.get(chain.table), chain)] as const);
  }

  private isComplete(found: Presence, version: Version, chain: ChainRules): boolean {
    const rules = this.renderings.get(renderingKey(version, chain)) ?? chain.rules;
    return isComplete(found, { rules });
  }

  /** A version that writes rules differently must not look, every time, as if somebody had changed them. */
  private learn(found: Presence, version: Version, chain: ChainRules): void {
    if (found.rules?.length === chain.rules.length && !this.isComplete(found, version, chain)) {
      this.renderings.set(renderingKey(version, chain), found.rules);
    }
  }
}

function renderingKey(version: Version, { chain }: ChainName): string {
  return `${version} ${chain}`;
}

/** Which chains are to stay, of those that `iptables` itself shows. */
export type Kept = (version: Version) => readonly ChainName[];

/**
 * Removes our chains, and what leads to them, from every variant of iptables that is on this host. Variants that cannot
 * be read are passed over.
 * @returns what was removed.
 */
export async function removeIptablesRules(kept: Kept = () => []): Promise<string[]> {
  const inUse = await versionOf('iptables').catch(() => null);
  const removed: string[] = [];
  for (const variant of VARIANTS) {
    const found = await versionOf(variant).catch(() => null);
    if (found === null) continue;
    for (const version of [4, 6] as const) {
      const family = Family.find(variant, version, found.since162);
      if (family === null) continue;
      const stay = inUse?.nft === found.nft ? kept(version) : [];
      const names = OUR_CHAINS.filter((name) => !stay.includes(name));
      removed.push(...(await removeFrom(family, names, `${variant}, IPv${version}`)));
    }
  }
  return removed;
}

async function removeFrom(family: Family, names: readonly ChainName[], where: string): Promise<string[]> {
  let found: (readonly [ChainName, Presence])[];
  try {
    const saved = await family.read(null);
    found = names.map((name) => [name, presenceOf(saved.get(name.table), name)] as const);
  } catch (error) {
    log.v(1).info(`cannot look for old rules (${where}): ${messageOf(error)}`);
    return [];
  }
  found = found.filter(([, presence]) => isPresent(presence));
  if (found.length === 0) return [];
  await family.write(removalText(found));
  return found.map(([{ chain }]) => `${chain} (${where})`);
}

async function versionOf(variant: string): Promise<IptablesVersion> {
  const program = findProgram(variant);
  if (program === null) throw missing(variant);
  return parseIptablesVersion(await runProgram(program, ['--version']));
}

function missing(program: string): FlannelError {
  return new FlannelError(
    `${program} is not installed: install iptables, or set EnableNFTables in the network config to use nftables, ` +
      'or do without rules (--iptables-forward-rules=false, and no --ip-masq)',
  );
}
