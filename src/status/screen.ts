/** A terminal, or whatever stdout is instead. */
import type { WriteStream } from 'node:tty';
import { coloured, plain } from './table.js';
import type { Paint } from './table.js';

/** xterm's control sequences, which every terminal of today has. */
const ALTERNATE_SCREEN = '\x1b[?1049h\x1b[?25l';
const MAIN_SCREEN = '\x1b[?25h\x1b[?1049l';
const HOME = '\x1b[H';
const REST_OF_LINE = '\x1b[K';
const REST_OF_SCREEN = '\x1b[J';

const USUAL_WIDTH = 80;
const LEAST_WIDTH = 40;

export class Screen {
  readonly paint: Paint;
  private inside = false;

  constructor(
    private readonly out: WriteStream,
    env: Readonly<{ NO_COLOR?: string }>,
  ) {
    // https://no-color.org: any value but an empty one.
    this.paint = this.isTerminal && (env.NO_COLOR ?? '') === '' ? coloured : plain;
  }

  get width(): number {
    return this.isTerminal ? Math.max(LEAST_WIDTH, this.out.columns) : USUAL_WIDTH;
  }

  /** Null where text scrolls by. */
  get height(): number | null {
    return this.isTerminal ? this.out.rows : null;
  }

  /** From here on draw() replaces what it drew before; leave() brings back what was there. */
  enter(): void {
    if (!this.isTerminal) return;
    this.inside = true;
    this.out.write(ALTERNATE_SCREEN);
  }

  /** Idempotent. */
  leave(): void {
    if (this.inside) this.out.write(MAIN_SCREEN);
    this.inside = false;
  }

  /** Lines over those before on a terminal, else one more block with an empty line behind it. */
  draw(lines: readonly string[]): void {
    if (!this.inside) {
      this.out.write(`${lines.join('\n')}\n\n`);
      return;
    }
    const shown = lines.slice(0, this.out.rows).map((line) => line + REST_OF_LINE);
    this.out.write(HOME + shown.join('\n') + REST_OF_SCREEN);
  }

  /** Resolves when it has been passed on, also where nobody reads it. */
  write(text: string): Promise<void> {
    return new Promise((resolve) => {
      const failed = () => {
        resolve();
      };
      this.out.once('error', failed);
      this.out.write(text, (error) => {
        if (error == null) this.out.off('error', failed);
        resolve();
      });
    });
  }

  private get isTerminal(): boolean {
    return this.out.isTTY;
  }
}
