/** A flanneld of this checkout as a child process. */
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Host } from './topology.js';

/** The program of this checkout. */
export const FLANNELD = fileURLToPath(new URL('../src/main.js', import.meta.url));
/** For what takes a moment on an idle machine. */
const PATIENCE_MS = 30_000;

export class Daemon {
  /** Everything it has written to stderr. */
  log = '';
  private closed = false;
  private readonly changed = new Set<() => void>();

  private constructor(
    readonly host: Host,
    readonly process: ChildProcess,
    readonly subnetFile: string,
  ) {
    process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.log += text;
      for (const wake of this.changed) wake();
    });
    process.once('close', () => {
      this.closed = true;
      for (const wake of this.changed) wake();
    });
  }

  /**
   * Starts it on a host; `subnetFile` is where it writes its subnet. `wrapper` is a command that runs the one
   * given behind it, such as setpriv; `main` is the program, for one of another checkout.
   */
  static start(
    host: Host,
    subnetFile: string,
    flags: readonly string[],
    wrapper: readonly string[] = [],
    main: string = FLANNELD,
  ): Daemon {
    const command = [...wrapper, process.execPath, main, `--subnet-file=${subnetFile}`, ...flags];
    const child = host.spawn(command[0] ?? '', command.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] });
    return new Daemon(host, child, subnetFile);
  }

  /** Exit status, or null while it runs. */
  get exitCode(): number | null {
    return this.process.exitCode;
  }

  /** Resolves with the match once its log matches. @throws Error with the log when it ends before or is late. */
  async logged(pattern: RegExp, timeoutMs = PATIENCE_MS): Promise<RegExpExecArray> {
    const late = AbortSignal.timeout(timeoutMs);
    for (;;) {
      const match = pattern.exec(this.log);
      if (match !== null) return match;
      if (this.closed || late.aborted) {
        const what = this.closed ? 'ended' : `said nothing in ${timeoutMs} ms`;
        throw new Error(`flanneld on ${this.host.name} ${what} before ${String(pattern)}:\n${this.log}`);
      }
      await this.next(late);
    }
  }

  /** Resolves once it forwards packets to `peers` other hosts. */
  async ready(peers: number): Promise<void> {
    await this.logged(/flannel is ready/);
    await this.logged(new RegExp(`(?:Subnet added: [^]*?){${peers}}`));
  }

  /** The value of a key of subnet.env. */
  subnetEnv(key: string): string {
    const match = new RegExp(`^${key}=(.*)$`, 'm').exec(readFileSync(this.subnetFile, 'utf8'));
    if (match?.[1] === undefined) throw new Error(`${this.subnetFile} has no ${key}`);
    return match[1];
  }

  /** The host's subnet, in network form: `10.244.7.0/24`. */
  get overlaySubnet(): string {
    // flanneld writes the first address in the subnet for the container bridge; one less is the subnet itself.
    return this.subnetEnv('FLANNEL_SUBNET').replace(/(\d+)\/(\d+)$/, (_, last: string, length: string) =>
      [Number(last) - 1, length].join('/'),
    );
  }

  /** The host's address on the overlay. */
  get overlayAddress(): string {
    return this.overlaySubnet.replace(/\/.*/, '');
  }

  /** What the dataplane counted, as told at the end. */
  counters(): Map<string, number> {
    const line = /Dataplane counters: (.*)/.exec(this.log)?.[1] ?? '';
    const pairs = line.split(' ').map((pair) => pair.split('='));
    return new Map(pairs.map(([name = '', value = '']) => [name, Number(value)]));
  }

  /** Resolves once it has ended and its log is complete. @throws Error with the log when that does not come. */
  async ended(timeoutMs = 2 * PATIENCE_MS): Promise<void> {
    const late = AbortSignal.timeout(timeoutMs);
    while (!this.closed && !late.aborted) await this.next(late);
    if (!this.closed) {
      throw new Error(`flanneld on ${this.host.name} goes on after ${timeoutMs} ms:\n${this.log}`);
    }
  }

  /** Ends it and resolves with its exit status; null where it had to be killed. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (!this.closed) {
      this.process.kill(signal);
      const timer = setTimeout(() => this.process.kill('SIGKILL'), PATIENCE_MS);
      await this.ended();
      clearTimeout(timer);
    }
    return this.process.exitCode;
  }

  private async next(late: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const wake = () => {
        this.changed.delete(wake);
        late.removeEventListener('abort', wake);
        resolve();
      };
      this.changed.add(wake);
      late.addEventListener('abort', wake);
    });
  }
}
