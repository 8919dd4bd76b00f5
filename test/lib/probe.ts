/** Numbered datagrams both ways between two addresses, for as long as a test lasts: what of them gets lost. */
import { compileProgram, RunningTool } from '../../bench/tools.js';
import type { Host } from '../../bench/topology.js';

/** One end of a probe. */
export interface ProbeEnd {
  readonly host: Host;
  /** Where the host receives: `Daemon.overlayAddress`, for instance. */
  readonly address: string;
}

/** What became of the datagrams of one direction. */
export interface ProbeFigures {
  readonly sent: number;
  /** Those of `sent` that the sender's kernel did not take: it had no route, for instance. They are lost. */
  readonly refused: number;
  /** Different ones. */
  readonly received: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly reordered: number;
  /** Milliseconds between two arrivals, at the longest; and when that began, in milliseconds since the epoch. */
  readonly gapMs: number;
  readonly gapAtMs: number;
}

/** What one receiver has seen so far. */
export interface ProbeProgress {
  readonly received: number;
  /** Numbers below the highest one received that are not there (yet). */
  readonly missing: number;
  /** The longest gap between two arrivals since the last time. */
  readonly gapMs: number;
  readonly gapAtMs: number;
}

/** As probe.c tells it. */
interface Arrivals {
  readonly received: number;
  readonly missing: number;
  readonly duplicated: number;
  readonly reordered: number;
  readonly gap_ms: number;
  readonly gap_at_ms: number;
}

interface Departures {
  readonly sent: number;
  readonly refused: number;
}

const PROGRAM = 'test/lib/probe.c';
const PORT = 7010;

/** One direction: a sender and a receiver. */
export class OneWayProbe {
  private gap = { gapMs: 0, gapAtMs: 0 };

  private constructor(
    private readonly receiver: RunningTool,
    private readonly sender: RunningTool,
  ) {}

  /** Sends `rate` datagrams a second to `address` of host `to`, at `sendTo` if that leads there. */
  static async start(
    from: Host,
    to: ProbeEnd,
    rate: number,
    { port = PORT, sendTo = to.address } = {},
  ): Promise<OneWayProbe> {
    const program = await compileProgram(PROGRAM);
    const receiver = await RunningTool.start(to.host, program, ['receive', to.address, `${port}`], /^ready$/);
    try {
      const target = ['send', sendTo, `${port}`, `${rate}`];
      return new OneWayProbe(receiver, await RunningTool.start(from, program, target, /^ready$/));
    } catch (error) {
      await receiver.kill();
      throw error;
    }
  }

  async progress(): Promise<ProbeProgress> {
    const { received, missing, gap_ms: gapMs, gap_at_ms: gapAtMs } = await this.receiver.ask<Arrivals>();
    if (gapMs > this.gap.gapMs) this.gap = { gapMs, gapAtMs };
    return { received, missing, gapMs, gapAtMs };
  }

  /** Ends it; resolves with what became of all datagrams. */
  async finish(): Promise<ProbeFigures> {
    try {
      const { sent, refused } = await this.sender.finish<Departures>();
      const last = await this.receiver.finish<Arrivals>();
      if (last.gap_ms > this.gap.gapMs) this.gap = { gapMs: last.gap_ms, gapAtMs: last.gap_at_ms };
      const { received, duplicated, reordered } = last;
      return { sent, refused, received, lost: sent - received, duplicated, reordered, ...this.gap };
    } finally {
      await this.kill();
    }
  }

  /** Ends it without a word. Idempotent. */
  async kill(): Promise<void> {
    await Promise.all([this.sender.kill(), this.receiver.kill()]);
  }
}

/** Both directions between two ends. */
export class Probe {
  private constructor(
    private readonly forth: OneWayProbe,
    private readonly back: OneWayProbe,
  ) {}

  /** @param rate datagrams a second, each way */
  static async start(a: ProbeEnd, b: ProbeEnd, rate: number): Promise<Probe> {
    const forth = await OneWayProbe.start(a.host, b, rate);
    try {
      return new Probe(forth, await OneWayProbe.start(b.host, a, rate));
    } catch (error) {
      await forth.kill();
      throw error;
    }
  }

  /** From `a` to `b`, and from `b` to `a`. */
  async progress(): Promise<readonly [ProbeProgress, ProbeProgress]> {
    return [await this.forth.progress(), await this.back.progress()];
  }

  /** Ends it; what became of the datagrams from `a` to `b`, and from `b` to `a`. */
  async finish(): Promise<readonly [ProbeFigures, ProbeFigures]> {
    return Promise.all([this.forth.finish(), this.back.finish()]);
  }

  /** Ends it without a word. Idempotent. */
  async kill(): Promise<void> {
    await Promise.all([this.forth.kill(), this.back.kill()]);
  }
}
