/** The rules in tables of our own, by way of nft(8). */
import { FlannelError, messageOf } from '../errors.js';
import { log } from '../log.js';
import { findProgram, ProgramError, runProgram } from './programs.js';
import { IncompleteRules } from './rule-manager.js';
import type { RuleManager } from './rule-manager.js';
import type { RulesetChange } from './ruleset-events.js';
import { nftChains } from './rules.js';
import type { NftChain, OverlayFamily, RuleChoice } from './rules.js';

/** A table of ours, and what is to be in it. */
interface Table {
  readonly version: 4 | 6;
  readonly name: string;
  /** As in `ip flannel-ipv4`. */
  readonly path: string;
  readonly chains: readonly NftChain[];
}

/** What there is of a table. */
export interface NftTable {
  readonly chains: readonly string[];
  readonly ruleCount: number;
  /** Equal for tables that do the same. */
  readonly digest: string;
}

const VERSIONS = [4, 6] as const;

export class NftablesManager implements RuleManager {
  readonly name = 'nftables';
  readonly announced = true;
  /** By path: the table as it was just after it had been written. */
  private readonly written = new Map<string, string>();

  private tables: readonly Table[] = [];

  private constructor(
    private readonly nft: string,
    private readonly choice: RuleChoice,
  ) {}

  /** @throws FlannelError with the remedy when the program is missing. */
  static async open(choice: RuleChoice): Promise<NftablesManager> {
    const nft = findProgram('nft');
    if (nft === null) {
      throw new FlannelError(
        'nft is not installed: install nftables, or set EnableNFTables to false in the network config to use iptables',
      );
    }
    const randomFully = choice.randomFully && choice.masquerade && (await knowsFullyRandom(nft));
    return new NftablesManager(nft, { ...choice, randomFully });
  }

  /** There is a table for either family, be it an empty one. */
  want(overlay: readonly OverlayFamily[]): void {
    this.tables = VERSIONS.map((version) => {
      const family = overlay.find((each) => each.version === version);
      const chains = family === undefined ? [] : nftChains(family, this.choice);
      return { version, ...tableName(version), chains };
    });
  }

  async ensure(): Promise<string[]> {
    const damages: string[] = [];
    const damaged: (readonly [Table, NftTable | null])[] = [];
    for (const table of this.tables) {
      const found = await this.read(table);
      if (found !== null && found.digest === this.written.get(table.path)) continue;
      damaged.push([table, found]);
      damages.push(describeDamage(found, table));
    }
    if (damaged.length === 0) return [];
    try {
      await this.write(damaged);
    } catch (error) {
      throw new IncompleteRules(damages, error);
    }
    for (const [table] of damaged) await this.remember(table);
    return damages;
  }

  concerns({ version, table }: RulesetChange): boolean {
    return this.tables.some((ours) => ours.version === version && ours.name === table);
  }

  private async read({ path }: Table): Promise<NftTable | null> {
    try {
      return parseNftTable(await runProgram(this.nft, ['-j', 'list', 'table', ...path.split(' ')]));
    } catch (error) {
      if (error instanceof ProgramError && error.message.includes('No such file or directory')) return null;
      throw error;
    }
  }

  private async write(damaged: readonly (readonly [Table, NftTable | null])[]): Promise<void> {
    const text = damaged.map(([table, found]) => tableText(table, found?.chains ?? [])).join('');
    log.v(6).info(`nft: ${JSON.stringify(text)}`);
    try {
      await runProgram(this.nft, ['-f', '-'], text);
    } catch (error) {
      // A chain of another type or hook under our name can only be replaced, which still is one step.
      log.v(1).info(`writing whole tables anew: ${messageOf(error)}`);
      const anew = damaged.map(
        ([table]) => `add table ${table.path}\ndelete table ${table.path}\n${tableText(table, [])}`,
      );
      await runProgram(this.nft, ['-f', '-'], anew.join(''));
    }
  }

  /** What was changed between writing and reading is seen by the chains and the number of rules, and written again. */
  private async remember(table: Table): Promise<void> {
    const found = await this.read(table);
    const isWhole =
      found !== null &&
      found.chains.toSorted().join() ===
        table.chains
          .map(({ name }) => name)
          .toSorted()
          .join() &&
      found.ruleCount === table.chains.reduce((sum, { rules }) => sum + rules.length, 0);
    if (isWhole) this.written.set(table.path, found.digest);
    else this.written.delete(table.path);
  }
}

function tableName(version: 4 | 6): { name: string; path: string } {
  const name = `flannel-ipv${version}`;
  return { name, path: `${version === 4 ? 'ip' : 'ip6'} ${name}` };
}

/** Makes a table what it should be; one transaction with whatever else nft is given with it. */
function tableText({ name, path, chains }: Table, present: readonly string[]): string {
  const lines = [`add table ${path} { comment "rules for ${name}"; }`];
  for (const { name: chain, hook, comment, rules } of chains) {
    lines.push(
      `add chain ${path} ${chain} { ${hook} comment "${comment}"; }`,
      `flush chain ${path} ${chain}`,
      ...rules.map((rule) => `add rule ${path} ${chain} ${rule}`),
    );
  }
  const wanted = chains.map(({ name: chain }): string => chain);
  for (const chain of present.filter((each) => !wanted.includes(each))) {
    lines.push(`flush chain ${path} ${chain}`, `delete chain ${path} ${chain}`);
  }
  return `${lines.join('\n')}\n`;
}

/**
 * Reads what `nft -j list table` prints (libnftables-json(5)).
 * @throws FlannelError where it is something else.
 */
export function parseNftTable(text: string): NftTable {
  let items: Record<string, Record<string, unknown>>[];
  try {
    ({ nftables: items } = JSON.parse(text) as { nftables: typeof items });
    const chains = items.flatMap(({ chain }) => (chain === undefined ? [] : [String(chain.name)]));
    const parts = items.filter((item) => !('metainfo' in item));
    const digest = JSON.stringify(parts, (key, value: unknown) => (key === 'handle' ? undefined : value));
    return { chains, ruleCount: items.filter(({ rule }) => rule !== undefined).length, digest };
  } catch (error) {
    throw new FlannelError(`nft printed something that is no list of a table: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function describeDamage(found: NftTable | null, { path, chains }: Table): string {
  if (found === null) return `table ${path} was missing`;
  const missing = chains.filter(({ name }) => !found.chains.includes(name)).map(({ name }) => name);
  if (missing.length > 0) return `chain ${missing.join(', ')} of table ${path} was missing`;
  return `table ${path} was changed`;
}

/** Tries a rule without committing it: old kernels and old nft do not know the flag. */
async function knowsFullyRandom(nft: string): Promise<boolean> {
  const { path } = tableName(4);
  const text =
    `add table ${path}\nadd chain ${path} masqueradeTest { type nat hook postrouting priority 100; }\n` +
    `add rule ${path} masqueradeTest masquerade fully-random\n`;
  try {
    await runProgram(nft, ['-c', '-f', '-'], text);
    return true;
  } catch (error) {
    log.warning(`masquerading without fully random ports: ${messageOf(error)}`);
    return false;
  }
}

/**
 * Removes our tables. Where nft is missing, or does not work, there is nothing that can be done.
 * @returns what was removed.
 */
export async function removeNftTables(): Promise<string[]> {
  const nft = findProgram('nft');
  if (nft === null) return [];
  let present: string;
  try {
    present = await runProgram(nft, ['list', 'tables']);
  } catch (error) {
    log.v(1).info(`cannot look for old tables: ${messageOf(error)}`);
    return [];
  }
  const lines = present.split('\n').map((line) => line.trim());
  const ours = VERSIONS.map((version) => tableName(version).path).filter((path) =>
    lines.includes(`table ${path}`),
  );
  if (ours.length === 0) return [];
  await runProgram(nft, ['-f', '-'], ours.map((path) => `delete table ${path}\n`).join(''));
  return ours.map((path) => `table ${path} (nftables)`);
}
