/** Packet filters as far as a datagram of the tunnel meets them, whatever program made them. */
import type { Ip4 } from '../../ip.js';

/** A datagram between this host and another; its connection is new. */
export interface Datagram {
  /** Where it meets the filter. */
  readonly hook: 'prerouting' | 'input' | 'output' | 'postrouting';
  /** The external interface. */
  readonly interface: string;
  /** Null where any address is meant. */
  readonly source: Ip4 | null;
  readonly destination: Ip4 | null;
  /** Where it is sent to, on the other host as on this one. */
  readonly port: number;
}

/** Null: it cannot be told from the rule alone. */
export type Match = (datagram: Datagram) => boolean | null;

export type Target =
  | { readonly kind: 'accept' | 'drop' | 'return' | 'continue' }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string };

export interface Rule {
  readonly matches: readonly Match[];
  readonly target: Target;
  /** As its program shows it. */
  readonly text: string;
  /** The command that takes it away. */
  readonly remedy: string;
}

export interface Chain {
  readonly name: string;
  /** Where the kernel enters it; null for one that rules enter. */
  readonly hook: string | null;
  /** What becomes of what no rule decides. */
  readonly policy: 'accept' | 'drop';
  readonly rules: Rule[];
}

/** Chains that rules enter by name; one table of one family. */
export type Table = ReadonlyMap<string, Chain>;

export type Outcome =
  | { readonly verdict: 'accept' }
  /** `rule` is null for the policy of the chain. */
  | { readonly verdict: 'drop'; readonly chain: Chain; readonly rule: Rule | null }
  /** A rule that cannot be told to match decides. */
  | { readonly verdict: 'unknown'; readonly chain: Chain };

interface Walk {
  readonly table: Table;
  readonly datagram: Datagram;
  /** Whether a rule on the way may have accepted it. */
  maybeAccepted: boolean;
}

const DEEPEST = 16; // the kernel's own limit of jumps

/** What becomes of a datagram in a chain that the kernel enters. */
export function outcomeOf(table: Table, chain: Chain, datagram: Datagram): Outcome {
  const walk: Walk = { table, datagram, maybeAccepted: false };
  const decided = pass(walk, chain, 0);
  if (decided === 'accept') return { verdict: 'accept' };
  const drops = decided !== null || chain.policy === 'drop';
  if (!drops) return { verdict: 'accept' };
  if (walk.maybeAccepted) return { verdict: 'unknown', chain };
  return { verdict: 'drop', chain, rule: decided };
}

/** `accept`, the rule that drops, or null where the chain ends without a decision. */
function pass(walk: Walk, chain: Chain, depth: number): 'accept' | Rule | null {
  if (depth > DEEPEST) return null;
  for (const rule of chain.rules) {
    const matches = matchesAll(rule.matches, walk.datagram);
    if (matches === false) continue;
    const { target } = rule;
    if (matches === null) {
      walk.maybeAccepted ||= mayAccept(walk, target, depth);
      continue;
    }
    if (target.kind === 'accept') return 'accept';
    if (target.kind === 'drop') return rule;
    if (target.kind === 'return') return null;
    if (target.kind !== 'jump' && target.kind !== 'goto') continue;
    const next = walk.table.get(target.chain);
    if (next === undefined) {
      walk.maybeAccepted = true; // of a kind that is not known here
      continue;
    }
    const decided = pass(walk, next, depth + 1);
    if (decided !== null || target.kind === 'goto') return decided;
  }
  return null;
}

function mayAccept(walk: Walk, target: Target, depth: number): boolean {
  if (target.kind === 'accept') return true;
  if (target.kind !== 'jump' && target.kind !== 'goto') return false;
  const next = walk.table.get(target.chain);
  if (next === undefined || depth > DEEPEST) return true;
  return next.rules.some((rule) => {
    if (matchesAll(rule.matches, walk.datagram) === false) return false;
    return mayAccept(walk, rule.target, depth + 1);
  });
}

function matchesAll(matches: readonly Match[], datagram: Datagram): boolean | null {
  const results = matches.map((match) => match(datagram));
  if (results.includes(false)) return false;
  return results.includes(null) ? null : true;
}

/** The opposite of what is known. */
export function not(match: Match): Match {
  return (datagram) => {
    const result = match(datagram);
    return result === null ? null : !result;
  };
}
