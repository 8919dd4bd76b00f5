/** The text that iptables-save prints and iptables-restore takes (iptables-save(8), iptables-restore(8)). */
import type { ChainName, ChainRules } from './rules.js';
import { commentMatch } from './rules.js';

export interface SavedChain {
  /** Without `-A CHAIN`, in order. */
  readonly rules: readonly string[];
}

/** The chains of one table by name. */
export type SavedTable = ReadonlyMap<string, SavedChain>;

/** The tables by name. Lines that are neither table, chain nor rule are passed over. */
export function parseSaved(text: string): Map<string, SavedTable> {
  const tables = new Map<string, Map<string, { rules: string[] }>>();
  let table = new Map<string, { rules: string[] }>();
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) {
      table = new Map();
      tables.set(line.slice(1).trim(), table);
    } else if (line.startsWith(':')) {
      table.set(line.slice(1).split(' ', 1)[0] ?? '', { rules: [] });
    } else if (line.startsWith('-A ')) {
      const [, chain = '', rule = ''] = /^-A (\S+) ?(.*)$/.exec(line) ?? [];
      table.get(chain)?.rules.push(rule.trimEnd());
    }
  }
  return tables;
}

/** What there is of one of our chains. */
export interface Presence {
  /** The chain's rules; null where there is no chain. */
  readonly rules: readonly string[] | null;
  /** Rules of the built-in chain that lead to ours and are nothing but that jump. */
  readonly jumps: readonly string[];
  /** Other rules of the built-in chain with our comment: earlier flannels had theirs there. */
  readonly strays: readonly string[];
  /** Somebody else's rules lead to our chain, so that it cannot be deleted. */
  readonly referred: boolean;
}

export function presenceOf(saved: SavedTable | undefined, name: ChainName): Presence {
  const rules = saved?.get(name.chain)?.rules ?? null;
  const jumps: string[] = [];
  const strays: string[] = [];
  for (const rule of saved?.get(name.parent)?.rules ?? []) {
    if (isJump(rule, name)) jumps.push(rule);
    else if (commentOf(rule) === name.comment) strays.push(rule);
  }
  const referred = [...(saved ?? [])].some(([chain, { rules: others }]) =>
    others.some((rule) => leadsTo(rule, name.chain) && !(chain === name.parent && isOurs(rule, name))),
  );
  return { rules, jumps, strays, referred };
}

export function isPresent({ rules, jumps, strays }: Presence): boolean {
  return rules !== null || jumps.length + strays.length > 0;
}

/** Whether the kernel has exactly these rules, in their order, and one jump to them. */
export function isComplete(found: Presence, { rules }: Pick<ChainRules, 'rules'>): boolean {
  return (
    found.jumps.length === 1 &&
    found.strays.length === 0 &&
    found.rules?.length === rules.length &&
    rules.every((rule, i) => rule === found.rules?.[i])
  );
}

/** What is wrong, in words. */
export function describeDamage(found: Presence, { chain, rules, parent }: ChainRules): string {
  if (found.rules === null) return `chain ${chain} was missing`;
  const missing = rules.filter((rule) => found.rules?.includes(rule) !== true).length;
  if (missing > 0)
    return `${missing} of the ${rules.length} rules of ${chain} ${missing === 1 ? 'was' : 'were'} missing`;
  if (found.jumps.length === 0) return `the jump from ${parent} to ${chain} was missing`;
  return `the rules of ${chain} were changed`;
}

/**
 * What makes iptables-restore --noflush bring the chains in order, each table in one step: declaring a chain empties it,
 * and the kernel sees only the outcome. A jump that stands keeps its place.
 */
export function restoreText(wanted: readonly (readonly [ChainRules, Presence])[]): string {
  return wanted
    .map(([{ rules, ...name }, { jumps, strays }]) =>
      tableText(name, [
        `:${name.chain} - [0:0]`,
        ...[...strays, ...jumps.slice(1)].map((rule) => `-D ${name.parent} ${rule}`),
        ...(jumps.length === 0 ? [`-A ${name.parent} ${commentMatch(name)} -j ${name.chain}`] : []),
        ...rules.map((rule) => `-A ${name.chain} ${rule}`),
      ]),
    )
    .join('');
}

/** What makes iptables-restore --noflush remove chains that are present, and what leads to them. */
export function removalText(found: readonly (readonly [ChainName, Presence])[]): string {
  return found
    .map(([name, { rules, jumps, strays, referred }]) =>
      tableText(name, [
        ...[...jumps, ...strays].map((rule) => `-D ${name.parent} ${rule}`),
        ...(rules === null ? [] : [`-F ${name.chain}`]),
        ...(rules === null || referred ? [] : [`-X ${name.chain}`]),
      ]),
    )
    .join('');
}

function tableText({ table }: ChainName, lines: readonly string[]): string {
  return `*${table}\n${lines.join('\n')}\nCOMMIT\n`;
}

const COMMENT = / ?-m comment --comment (?:"([^"]*)"|(\S+))/;

function commentOf(rule: string): string | undefined {
  const match = COMMENT.exec(rule);
  return match?.[1] ?? match?.[2];
}

function isJump(rule: string, { chain }: ChainName): boolean {
  return rule.replace(COMMENT, '').trim() === `-j ${chain}`;
}

function isOurs(rule: string, name: ChainName): boolean {
  return isJump(rule, name) || commentOf(rule) === name.comment;
}

function leadsTo(rule: string, chain: string): boolean {
  return rule.endsWith(`-j ${chain}`) || rule.endsWith(`-g ${chain}`);
}
