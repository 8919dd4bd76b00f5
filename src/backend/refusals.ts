/** Names in the log the sources that the source check refuses. */
import { formatIp } from '../address.js';
import { systemClock } from '../clock.js';
import type { Clock } from '../clock.js';
import type { Refusal } from '../dataplane.js';

const MINUTE_MS = 60_000;
const MOST_NAMED = 20; // a minute: a flood from invented addresses is not to become a flood of lines

/** Each source at most once a minute, and not more than a few altogether. */
export class RefusalLog {
  private readonly named = new Map<string, number>(); // when
  private held = 0;

  constructor(
    private readonly warn: (message: string) => void,
    private readonly clock: Pick<Clock, 'monotonicMs'> = systemClock,
  ) {}

  report(refusals: readonly Refusal[]): void {
    const now = this.clock.monotonicMs();
    this.forget(now);
    for (const refusal of refusals) {
      const key = `${refusal.reason} ${refusal.source}`;
      if (this.named.has(key)) continue;
      if (this.named.size >= MOST_NAMED) {
        this.held++;
        continue;
      }
      this.named.set(key, now);
      this.warn(explain(refusal));
    }
  }

  /** What was named a minute ago may be named again; and what was not named because of it is at least mentioned. */
  private forget(now: number): void {
    for (const [key, at] of this.named) {
      if (now - at >= MINUTE_MS) this.named.delete(key);
    }
    if (this.held === 0 || this.named.size >= MOST_NAMED) return;
    this.warn(`Refused packets from more sources than are named here (${this.held} reports)`);
    this.held = 0;
  }
}

function explain({ reason, source, innerSource }: Refusal): string {
  const from = formatIp(source);
  const inner = innerSource === null ? null : formatIp(innerSource);
  if (reason === 'subnet') {
    return (
      `Refused packets from the peer ${from}: their inner source, such as ${inner ?? '::'}, is not in a subnet of that peer; ` +
      'if it is meant to be, set "SourceCheck": "peer" in the Backend of the network config'
    );
  }
  const what = inner === null ? '' : ` (inner source ${inner})`;
  return (
    `Refused packets from ${from}${what}: no lease announces this address. If it belongs to a host of this network, ` +
    'that host should announce it (--public-ip) or send from what it announces (--iface); otherwise set ' +
    '"SourceCheck": "none" in the Backend of the network config'
  );
}
