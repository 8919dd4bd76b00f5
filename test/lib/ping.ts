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

  private get answered(): number {
    return this.output.split(' bytes from ').length - 1;
  }

  /** Goes on until enough were answered to tell. @returns how many were sent. @throws where one was not answered. */
  async end(): Promise<number> {
    try {
      await eventually(() => this.answered >= LEAST || this.probe.exitCode !== null);
    } finally {
      this.probe.kill('SIGINT');
      await this.closed;
    }
    const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(this.output) ?? [];
    // The last one may be on its way when the probe is ended.
    assert.ok(Number(sent) >= LEAST && Number(sent) - Number(received) <= 1, this.output);
    return Number(sent);
  }
}
