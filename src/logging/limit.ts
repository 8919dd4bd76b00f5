import type { Clock } from '../clock.js';
import { systemClock } from '../clock.js';

const WINDOW_MS = 60_000;

interface Window {
  readonly since: number;
  said: number;
  suppressed: number;
}

/** Lets so many lines of a kind a minute pass, and counts the others: what packets cause can come in any number. */
export class LineLimit {
  private readonly windows = new Map<string, Window>();

  constructor(
    private readonly most = 10,
    private readonly clock: Pick<Clock, 'monotonicMs'> = systemClock,
  ) {}

  /** Whether a line of this kind may be written now. `kind` is one of a few. */
  allows(kind: string): boolean {
    const window = this.windows.get(kind) ?? { since: this.clock.monotonicMs(), said: 0, suppressed: 0 };
    this.windows.set(kind, window);
    if (window.said < this.most) window.said++;
    else window.suppressed++;
    return window.suppressed === 0;
  }

  /** What is to be said of lines that were left out, once their minute is over; to be asked now and then. */
  reports(): string[] {
    const now = this.clock.monotonicMs();
    const reports: string[] = [];
    for (const [kind, { since, suppressed }] of this.windows) {
      if (now - since < WINDOW_MS) continue;
      this.windows.delete(kind);
      if (suppressed > 0) reports.push(`${kind}: ${suppressed} more lines within a minute were left out`);
    }
    return reports;
  }
}
