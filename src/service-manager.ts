/** What a service manager such as systemd is told (sd_notify(3)): ready, alive, in which state, about to end. */
import type { DaemonState } from './daemon-state.js';
import { notifyServiceManager } from './dataplane.js';
import { messageOf } from './errors.js';
import { allOk, livenessChecks, summarize } from './health.js';
import { log } from './log.js';

/** How often the status line is looked at; it is sent when it has changed. */
const STATUS_MS = 10_000;

export type Environment = Readonly<Record<string, string | undefined>>;

export class ServiceManager {
  private readonly timer: NodeJS.Timeout | null;
  private lastStatus = '';
  /** It is said again until it was heard, as systemd waits for it. */
  private readyIsDue = false;
  private complained = false;
  private stopped = false;

  /** Without a NOTIFY_SOCKET it costs nothing. */
  constructor(
    private readonly state: DaemonState,
    private readonly env: Environment = process.env,
    private readonly send: (message: string) => void = notifyServiceManager,
  ) {
    const listens = (env.NOTIFY_SOCKET ?? '') !== '';
    const ms = Math.min(STATUS_MS, watchdogMs(env) ?? STATUS_MS);
    this.timer = listens
      ? setInterval(() => {
          this.tick();
        }, ms)
      : null;
  }

  ready(): void {
    this.readyIsDue = true;
    this.tick();
  }

  /** Idempotent. */
  stop(): void {
    if (this.timer !== null) clearInterval(this.timer);
    if (!this.stopped) this.tell('STOPPING=1');
    this.stopped = true;
  }

  private tick(): void {
    if (this.readyIsDue && this.tell('READY=1')) this.readyIsDue = false;
    const status = summarize(this.state);
    if (status !== this.lastStatus && this.tell(`STATUS=${status.replaceAll('\n', ' ')}`)) {
      this.lastStatus = status;
    }
    // Where there is nothing to be said for this process, the service manager is to start another.
    if (watchdogMs(this.env) !== null && allOk(livenessChecks(this.state))) this.tell('WATCHDOG=1');
  }

  /** Whether it was sent. */
  private tell(message: string): boolean {
    if (this.timer === null) return false;
    try {
      this.send(message);
      return true;
    } catch (error) {
      if (!this.complained) log.warning(`cannot tell the service manager ${message}: ${messageOf(error)}`);
      this.complained = true;
      return false;
    }
  }
}

/** Half of the time in which it wants to hear of us, in milliseconds; null where it does not. */
export function watchdogMs({ WATCHDOG_USEC: micros, WATCHDOG_PID: pid }: Environment): number | null {
  if (micros === undefined || !/^[1-9]\d*$/.test(micros)) return null;
  if (pid !== undefined && pid !== '' && pid !== String(process.pid)) return null;
  return Math.max(1, Number(micros) / 2000);
}
