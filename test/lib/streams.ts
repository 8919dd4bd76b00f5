/** Paced TCP streams between daemons' hosts, for as long as somebody looks. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Daemon } from '../../bench/daemon.js';

const START_MS = 30_000;

/** One iperf3 stream over the overlay, of so many bits per second, until stop(). */
export class PacedStream {
  private constructor(private readonly ends: readonly ChildProcess[]) {}

  /** `port` tells the streams to one host apart. */
  static async start(from: Daemon, to: Daemon, bitsPerSecond: number, port = 5201): Promise<PacedStream> {
    const where = ['-p', String(port)];
    const server = to.host.spawn('iperf3', ['-s', '-1', '--forceflush', '-B', to.overlayAddress, ...where], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    if (server.stdout !== null) {
      await once(server.stdout, 'data', { signal: AbortSignal.timeout(START_MS) });
      server.stdout.resume();
    }
    const rate = ['-b', String(bitsPerSecond), '-t', '600'];
    const client = from.host.spawn('iperf3', ['-c', to.overlayAddress, ...where, ...rate], {
      stdio: 'ignore',
    });
    return new PacedStream([client, server]);
  }

  async stop(): Promise<void> {
    for (const end of this.ends) {
      if (end.exitCode !== null || end.signalCode !== null) continue;
      const closed = once(end, 'close');
      end.kill('SIGKILL');
      await closed;
    }
  }
}
