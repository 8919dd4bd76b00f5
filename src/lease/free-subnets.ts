/** Which subnets of a space nothing overlaps, in time that depends on what is taken and not on how many there are. */
import type { Spans, SubnetSpace } from './subnet-space.js';

type Size = Pick<SubnetSpace<unknown>, 'size'>;

/** How many subnets, from the first on, are looked at together, each as a byte. */
const WINDOW = 1 << 20;

/**
 * The first free subnets' numbers, lowest first.
 * @param taken in any order, of any size; they may overlap each other
 * @param most how many to find at most
 */
export function freeSubnets({ size }: Size, taken: readonly Spans[], most: number): number[] {
  const window = Math.min(size, WINDOW);
  const free: number[] = [];
  const isTaken = new Uint8Array(window);
  for (const spans of taken) mark(isTaken, spans);
  for (let i = isTaken.indexOf(0); i >= 0 && free.length < most; i = isTaken.indexOf(0, i + 1)) free.push(i);
  if (free.length < most && size > window) addGaps(free, taken, window, Math.min(size, 2 ** 53), most);
  return free;
}

function mark(isTaken: Uint8Array, { from, to, length }: Spans): void {
  for (let i = 0; i < length; i++) {
    const first = from[i] ?? 0;
    const end = to[i] ?? 0;
    if (end - first === 1) {
      if (first >= 0) isTaken[first] = 1;
    } else if (first < isTaken.length && end > 0) {
      isTaken.fill(1, Math.max(0, first), Math.min(isTaken.length, end));
    }
  }
}

/** Adds to `free` what lies from `start` up to and without `end`, between the spans. */
function addGaps(free: number[], taken: readonly Spans[], start: number, end: number, most: number): void {
  let next = start;
  const until = (limit: number): void => {
    for (; next < limit && free.length < most; next++) free.push(next);
  };
  for (const { from, to } of inOrder(taken)) {
    until(Math.min(from, end));
    next = Math.max(next, to);
    if (free.length >= most || next >= end) return;
  }
  until(end);
}

/** How many subnets there are, and how many of them nothing in `taken` overlaps. */
export function countSubnets({ size }: Size, taken: Spans): { readonly all: number; readonly free: number } {
  let free = size;
  let end = 0;
  for (const { from, to } of inOrder([taken])) {
    free -= Math.max(0, Math.min(size, to) - Math.max(from, end));
    end = Math.max(end, to);
  }
  return { all: size, free };
}

function inOrder(taken: readonly Spans[]): { readonly from: number; readonly to: number }[] {
  return taken
    .flatMap(({ from, to, length }) =>
      Array.from({ length }, (_, i) => ({ from: from[i] ?? 0, to: to[i] ?? 0 })),
    )
    .sort((a, b) => a.from - b.from);
}
