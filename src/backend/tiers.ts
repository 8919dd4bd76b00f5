import type { Feature } from '../dataplane.js';

/** What each tier uses of the kernel, slowest first; `auto` is the last as far as the kernel goes. */
export const TIERS = {
  basic: [],
  batch: ['batch'],
  'udp-offload': ['batch', 'gso', 'gro'],
  full: ['batch', 'gso', 'gro', 'tso', 'uso'],
} as const satisfies Record<string, readonly Feature[]>;

/** The highest tier all of whose features are among these. */
export function tierOf(features: readonly Feature[]): keyof typeof TIERS {
  const tiers = Object.entries(TIERS) as [keyof typeof TIERS, readonly Feature[]][];
  return tiers.filter(([, needed]) => needed.every((name) => features.includes(name))).at(-1)?.[0] ?? 'basic';
}
