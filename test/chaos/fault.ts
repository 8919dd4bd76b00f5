import { setTimeout as delay } from 'node:timers/promises';
import type { Dice } from '../lib/dice.js';
import type { World } from './world.js';

/**
 * One thing that goes wrong, as often as it is chosen.
 * @template W what it happens to
 */
export interface Fault<W = World> {
  readonly name: string;
  /**
   * The entries of hosts that exchange traffic may vanish from the store for a while, and with them the peers'
   * routes: the only faults over which packets may be lost.
   */
  readonly takesLeases?: true;
  /** Why it cannot be brought about here; undefined where it can. */
  readonly missing?: (world: W) => string | undefined;
  /** Brings it about, lets it last and mends it. All that it chooses comes from the dice. */
  run(act: Act<W>): Promise<void>;
}

/** What a fault has to work with. */
export interface Act<W = World> {
  readonly world: W;
  readonly dice: Dice;
  /** Says what is about to happen, before it does. */
  readonly say: (text: string) => void;
  /** Resolves once all is well although the fault is not quite over. @throws Error as World.settled. */
  readonly settled: () => Promise<void>;
}

const SHORTEST_MS = 500;
const LONGEST_MS = 4_000;

/** How long a fault lasts, in milliseconds; short ones are more frequent. */
export function duration(dice: Dice): number {
  return Math.round(SHORTEST_MS + (LONGEST_MS - SHORTEST_MS) * dice.next() ** 2);
}

export async function last(ms: number): Promise<void> {
  await delay(ms);
}

/** `member 2`, `members 1 and 3`: which of `all` are `chosen`. */
export function named<T>(what: string, chosen: readonly T[], all: readonly T[]): string {
  const numbers = chosen.map((item) => String(all.indexOf(item) + 1));
  return `${what}${numbers.length > 1 ? 's' : ''} ${numbers.join(' and ')}`;
}
