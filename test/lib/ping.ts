import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Host } from '../../bench/topology.js';
import { eventually } from './eventually.js';

/** Fewer answers say nothing about the time in which they were sent. */
const LEAST = 50;

/** Pings 50 times a second until end(). */
export class Ping {
  private output = '';
  private readonly probe: ChildProcess;
  private readonly closed: Promise<unknown>;

  constructor(from: Host, to: string) {
    const stdio = ['ignore', 'pipe', 'inherit'] as const;
    this.probe = from.spawn('ping', ['-n', '-O', '-D', '-i', '0.02', to], { stdio: [...stdio] });
    this.probe.stdout?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    this.closed = once(this.probe, 'close');
  }

  /** The numbers of those that were answered. */
  private get answered(): Set<number> {
    return new Set(
      [...this.output.matchAll(/ bytes from .* icmp_seq=(\d+)/g)].map(([, number]) => Number(number)),
    );
  }

  /**
   * Goes on until enough were answered to tell, and one that is sent from now on.
   * @returns how many were sent.
   * @throws where more than one was not answered.
   */
  async end(): Promise<number> {
    // Each is named when it is answered, or when the next one is sent without that.
    const named = [...this.output.matchAll(/ icmp_seq=(\d+)/g)].map(([, number]) => Number(number));
    const sentBefore = Math.max(0, ...named) + 1;
    const isEnough = () => this.answered.size >= LEAST && Math.max(...this.answered) > sentBefore;
    try {
      await eventually(() => isEnough() || this.probe.exitCode !== null);
    } finally {
      this.probe.kill('SIGINT');
      await this.closed;
    }
    const sent = Number(/(\d+) packets transmitted/.exec(this.output)?.[1]);
    const { answered } = this;
    // Those behind the last answer may be on their way when the probe is ended, on a busy machine several.
    const lost = Math.max(...answered) - answered.size;
    assert.ok(sent >= LEAST && answered.size >= LEAST && lost <= 1, this.output);
    return sent;
  }
}
