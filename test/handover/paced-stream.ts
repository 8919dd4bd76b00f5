import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { Host } from '../../bench/topology.js';
import type { ProbeEnd } from '../lib/probe.js';
import type { ChildProcess } from 'node:child_process';

/** Bits a second: enough to fill every batch, and little enough to leave the processors to the packets. */
const RATE = '200M';
const FOR_EVER = '3600';
const PORT = '5201';

/** One TCP connection that carries data at a fixed rate from beginning to end. */
export class PacedStream {
  private constructor(
    private readonly server: ChildProcess,
    private readonly client: ChildProcess,
    private readonly output: () => string,
  ) {}

  static async start(from: ProbeEnd, to: ProbeEnd): Promise<PacedStream> {
    const server = spawnIperf(to.host, ['--server', '--one-off', '--bind', to.address, '--port', PORT]);
    await said(server, /listening/i);
    const args = ['--client', to.address, '--bind', from.address, '--port', PORT];
    const client = spawnIperf(from.host, [...args, '--bitrate', RATE, '--time', FOR_EVER]);
    let text = '';
    client.stdout?.on('data', (chunk: string) => (text += chunk));
    await said(client, /sec/);
    return new PacedStream(server, client, () => text);
  }

  /** Ends it; resolves with the bytes that arrived. @throws Error when the connection did not live so long. */
  async finish(): Promise<number> {
    if (this.client.exitCode !== null) throw new Error(`the TCP connection broke:\n${this.output()}`);
    const before = this.output().length;
    // Still moving, after all that has happened.
    const until = Date.now() + 10_000;
    while (moved(this.output().slice(before)) === 0) {
      if (Date.now() > until) throw new Error(`the TCP connection stands still:\n${this.output()}`);
      await delay(50);
    }
    const bytes = moved(this.output());
    await this.kill();
    return bytes;
  }

  /** Idempotent. */
  async kill(): Promise<void> {
    for (const child of [this.client, this.server]) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }
}

/** The bytes of all intervals that iperf3 has told of. */
function moved(text: string): number {
  const intervals = text.matchAll(/sec\s+([\d.]+) ([KMG]?)Bytes/g);
  return [...intervals].reduce((sum, [, count, unit = '']) => sum + Number(count) * (UNITS[unit] ?? 1), 0);
}

const UNITS: Readonly<Record<string, number>> = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

function spawnIperf(host: Host, args: readonly string[]): ChildProcess {
  const child = host.spawn('iperf3', ['--forceflush', ...args], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  child.stdout?.setEncoding('utf8');
  return child;
}

async function said(child: ChildProcess, pattern: RegExp): Promise<void> {
  let text = '';
  for (;;) {
    if (child.stdout === null || child.exitCode !== null) throw new Error(`iperf3 ended: ${text}`);
    const [chunk] = (await once(child.stdout, 'data')) as [string];
    text += chunk;
    if (pattern.test(text)) return;
  }
}
