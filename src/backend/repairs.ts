/**
 * How often something is mended that somebody else keeps breaking: ten times at once, then once a minute. A program
 * that insists is not fought, and one that did it too often for a while does not keep the overlay down for good.
 */
import { log } from '../log.js';

const MOST = 10;
const REFILL_MS = 60_000;

interface Budget {
  left: number;
  /** When `left` last grew, or was full. */
  since: number;
  /** That it is used up has been said. */
  said: boolean;
}

export class Repairs {
  private readonly budgets = new Map<string, Budget>();
  private readonly done = new Map<string, number>();

  /** @param now milliseconds of a clock that never goes back */
  constructor(private readonly now: () => number = () => performance.now()) {}

  /** Whether it is in order to mend `what` of `owner` once more; says so, once, where it is not. */
  allow(owner: string, what: string): boolean {
    const budget = this.budgetOf(what);
    if (budget.left > 0) return true;
    if (!budget.said) {
      log.error(
        `something else keeps changing ${owner} (${what}): from now on that is set right once a minute at most; ` +
          `make the other program leave ${owner} alone`,
      );
    }
    budget.said = true;
    return false;
  }

  /** How often what was mended since the start. */
  get counts(): ReadonlyMap<string, number> {
    return this.done;
  }

  /** Counts a repair. */
  count(what: string): void {
    this.done.set(what, (this.done.get(what) ?? 0) + 1);
    this.budgetOf(what).left--;
  }

  private budgetOf(what: string): Budget {
    const now = this.now();
    let budget = this.budgets.get(what);
    if (budget === undefined) {
      budget = { left: MOST, since: now, said: false };
      this.budgets.set(what, budget);
    }
    const earned = Math.floor((now - budget.since) / REFILL_MS);
    budget.left = Math.min(MOST, budget.left + earned);
    budget.since += earned * REFILL_MS;
    if (budget.left === MOST) Object.assign(budget, { since: now, said: false });
    return budget;
  }
}
