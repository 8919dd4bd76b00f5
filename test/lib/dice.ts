/** Chances that come out the same whenever the seed is the same. */
export class Dice {
  private state: number;

  /** @param seed any text */
  constructor(private readonly seed: string) {
    // FNV-1a
    let hash = 0x811c9dc5;
    for (const byte of Buffer.from(seed)) hash = Math.imul(hash ^ byte, 0x01000193);
    this.state = hash >>> 0;
  }

  /** Other dice, which come out the same however often these have been thrown. */
  fork(name: string): Dice {
    return new Dice(`${this.seed} ${name}`);
  }

  /** A number in [0, 1). */
  next(): number {
    // mulberry32
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let mixed = this.state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from `least` to `most`, both included. */
  between(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1));
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** @throws Error for an empty list */
  pick<T>(list: readonly T[]): T {
    const picked = list[this.between(0, list.length - 1)];
    if (picked === undefined) throw new Error('nothing to pick from');
    return picked;
  }

  shuffled<T>(list: readonly T[]): T[] {
    const rest = [...list];
    return list.map(() => rest.splice(this.between(0, rest.length - 1), 1)).flat();
  }

  /** From one of the list to all of it, in its order. */
  some<T>(list: readonly T[]): T[] {
    const chosen = new Set(this.shuffled(list).slice(0, this.between(1, list.length)));
    return list.filter((item) => chosen.has(item));
  }
}
