/** Repairs of the traffic rules, counted, and told without flooding the log where somebody insists. */
import { log } from '../log.js';

/** As many within a minute are told one by one, later ones together. */
const MOST = 10;
const MINUTE_MS = 60_000;

export class RepairLog {
  repairs = 0;
  lastRepair: Date | null = null;
  private since = -Infinity;
  private told = 0;
  private untold = 0;

  /** @param now milliseconds of a clock that never goes back */
  constructor(private readonly now: () => number = () => performance.now()) {}

  /** @param damages what was wrong, in words */
  repaired(damages: readonly string[]): void {
    this.repairs++;
    this.lastRepair = new Date();
    const now = this.now();
    if (now - this.since > MINUTE_MS) Object.assign(this, { since: now, told: 0 });
    if (this.told >= MOST) {
      this.untold++;
      return;
    }
    this.told++;
    const more = this.untold === 0 ? '' : ` (and ${this.untold} times since this was last said)`;
    this.untold = 0;
    log.warning(`the traffic rules were changed by somebody; restored${more}: ${damages.join('; ')}`);
  }
}
