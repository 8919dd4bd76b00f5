/** A forwarder that runs as a process on a host. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../topology.js';

const STOP_MS = 3000;
const LOG_KEPT = 4000;

export class ForwarderProcess {
  /** The end of what it wrote. */
  private log = '';
  private ended: string | null = null;

  private constructor(
    readonly host: Host,
    private readonly child: ChildProcess,
  ) {
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.log = (this.log + text).slice(-LOG_KEPT);
      });
    }
    child.once('error', (error) => (this.ended = error.message));
    child.once('exit', (code, signal) => (this.ended = `ended with ${signal ?? `status ${code ?? '?'}`}`));
  }

  static start(
    host: Host,
    command: string,
    args: readonly string[],
    env: NodeJS.ProcessEnv = {},
  ): ForwarderProcess {
    const stdio = ['ignore', 'pipe', 'pipe'] as const;
    return new ForwarderProcess(
      host,
      host.spawn(command, args, { stdio: [...stdio], env: { ...process.env, ...env } }),
    );
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  /** Why it no longer runs: what it said last in the first line, then what it said before. Null while it runs. */
  failure(): string | null {
    if (this.ended === null) return null;
    const lines = this.log.trim().split('\n');
    const last = lines.pop() ?? '';
    return [`the forwarder on ${this.host.name} ${this.ended}${last && `: ${last}`}`, ...lines].join('\n');
  }

  /** Waits until `device` exists. @throws Error when the process ends before or it takes too long. */
  async hasDevice(device: string, timeoutMs = 5000): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!(await deviceExists(this.host, device))) {
      const failure = this.failure();
      if (failure !== null) throw new Error(failure);
      if (performance.now() > deadline) {
        throw new Error(`no device ${device} on ${this.host.name} after ${timeoutMs / 1000} s\n${this.log}`);
      }
      await sleep(50);
    }
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.ended !== null) return;
    const exited = once(this.child, 'exit');
    this.child.kill(signal);
    const timer = setTimeout(() => this.child.kill('SIGKILL'), STOP_MS);
    await exited;
    clearTimeout(timer);
  }
}

export async function deviceExists(host: Host, device: string): Promise<boolean> {
  return (await host.ip('-o', 'link', 'show')).includes(`: ${device}:`);
}

/** Gives a point-to-point device its address, MTU and the route to the whole overlay. */
export async function configureTun(
  host: Host,
  device: string,
  { address, mtu, network }: { readonly address: string; readonly mtu: number; readonly network: string },
): Promise<void> {
  await host.ip('address', 'add', `${address}/32`, 'dev', device);
  await host.ip('link', 'set', device, 'mtu', String(mtu), 'up');
  await host.ip('route', 'add', network, 'dev', device);
}
