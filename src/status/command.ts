/** `flanneld status`: one look at the running daemon, its JSON document, or a view that follows it. */
import { statusSocketPath } from '../socket-paths.js';
import { FlannelError, messageOf } from '../errors.js';
import type { Options } from '../flags.js';
import { sleep } from '../retry.js';
import { readStatus } from './client.js';
import { ratesBetween } from './rates.js';
import { ONE_LOOK, renderStatus } from './render.js';
import type { StatusReport } from './report.js';
import { Screen } from './screen.js';

const INTERVAL_MS = 1000;
/** As many looks as the widest sparkline shows. */
const HISTORY = 60;

export interface StatusSwitches {
  readonly json: boolean;
  readonly watch: boolean;
}

/**
 * Writes to stdout. The exit status: 0 when flanneld is ready, 1 when it is not; of `--watch` always 0.
 * @throws FlannelError where no daemon answers, except while it watches.
 */
export async function showStatus(options: Options, { json, watch }: StatusSwitches): Promise<number> {
  const path = statusSocketPath(options);
  if (path === null) {
    throw new FlannelError('there is no status socket with --status-socket=none: leave that flag out');
  }
  if (watch) {
    await new Watch(path, json).run();
    return 0;
  }
  const report = await readStatus(path);
  const screen = new Screen(process.stdout, process.env);
  const view = { ...ONE_LOOK, width: screen.width, paint: screen.paint };
  const text = json ? JSON.stringify(report, null, 2) : renderStatus(report, view).join('\n');
  await screen.write(`${text}\n`);
  return report.ready ? 0 : 1;
}

/** Looks again every second, also while there is no daemon. */
class Watch {
  private readonly screen = new Screen(process.stdout, process.env);
  private readonly ended = new AbortController();
  private readonly history: { out: number[]; in: number[] } = { out: [], in: [] };
  private before: StatusReport | null = null;
  private frame: (() => string[]) | null = null;

  constructor(
    private readonly path: string,
    private readonly json: boolean,
  ) {}

  async run(): Promise<void> {
    const end = () => {
      this.ended.abort();
    };
    const redraw = () => {
      if (this.frame !== null) this.screen.draw(this.frame());
    };
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
    for (const name of signals) process.once(name, end);
    process.stdout.once('error', end); // nobody reads any more
    process.stdout.on('resize', redraw);
    if (!this.json) this.screen.enter();
    try {
      do await this.look();
      while (await sleep(INTERVAL_MS, this.ended.signal));
    } finally {
      process.stdout.off('resize', redraw);
      for (const name of signals) process.off(name, end);
      this.screen.leave();
    }
  }

  private async look(): Promise<void> {
    try {
      const report = await readStatus(this.path, this.ended.signal);
      if (this.json) await this.screen.write(`${JSON.stringify(report)}\n`);
      else this.show(report);
    } catch (error) {
      if (this.ended.signal.aborted) return;
      if (!(error instanceof FlannelError)) throw error;
      this.before = null;
      this.lost(messageOf(error));
    }
  }

  private show(report: StatusReport): void {
    const rates = this.before === null ? null : ratesBetween(this.before, report);
    this.before = report;
    if (rates?.total != null) {
      this.history.out.push(rates.total.bitsOut);
      this.history.in.push(rates.total.bitsIn);
    }
    for (const values of Object.values(this.history)) values.splice(0, values.length - HISTORY);
    const { screen, history } = this;
    this.frame = () => {
      const { width, height, paint } = screen;
      return renderStatus(report, { width, height, paint, rates, history });
    };
    screen.draw(this.frame());
  }

  private lost(reason: string): void {
    if (this.json) {
      process.stderr.write(`${reason}\n`);
      return;
    }
    this.frame = () => [this.screen.paint('red', reason), 'waiting for it; Ctrl-C ends'];
    this.screen.draw(this.frame());
  }
}
