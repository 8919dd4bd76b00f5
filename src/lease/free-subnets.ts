/** Which subnets of a space nothing overlaps, in time that depends on what is taken and not on how many there are. */
import type { Span, SubnetSpace } from './subnet-space.js';

/** How many subnets, from the first on, are looked at together, each as a byte. */
const WINDOW = 1 << 20;

/**
 * The first free subnets' numbers, lowest first.
 * @param taken in any order, of any size; they may overlap each other
 * @param most how many to find at most
 */
export function freeSubnets(
  { size }: Pick<SubnetSpace<unknown>, 'size'>,
  taken: readonly Span[],
  most: number,
): number[] {
  const window = Math.min(size, WINDOW);
  const free: number[] = [];
  const isTaken = new Uint8Array(window);
  for (const { from, to } of taken) {
    if (to - from === 1 && from >= 0) isTaken[from] = 1;
    else if (from < window && to > 0) isTaken.fill(1, Math.max(0, from), Math.min(window, to));
  }
  for (let i = isTaken.indexOf(0); i >= 0 && free.length < most; i = isTaken.indexOf(0, i + 1)) free.push(i);
  if (free.length < most && size > window) addGaps(free, taken, window, Math.min(size, 2 ** 53), most);
  return free;
}

/** Adds to `free` what lies from `start` up to and without `end`, between the spans. */
function addGaps(free: number[], taken: readonly Span[], start: number, end: number, most: number): void {
  let next = start;
  const until = (limit: number): void => {
    for (; next < limit && free.length < most; next++) free.push(next);
  };
  for (const { from, to } of inOrder(taken.filter((span) => span.to > start && span.from < end))) {
    until(from);
    next = Math.max(next, to);
    if (free.length >= most || next >= end) return;
  }
  until(end);
}

/** How many subnets there are, and how many of them nothing in `taken` overlaps. */
export function countSubnets(
  { size }: Pick<SubnetSpace<unknown>, 'size'>,
  taken: readonly Span[],
): { readonly all: number; readonly free: number } {
  let free = size;
  let end = 0;
  for (const { from, to } of inOrder(taken)) {
    free -= Math.max(0, Math.min(size, to) - Math.max(from, end));
    end = Math.max(end, to);
  }
  return { all: size, free };
}

function inOrder(spans: readonly Span[]): Span[] {
  return [...spans].sort((a, b) => a.from - b.from);
}
