/** Leases of hosts that do not exist, changing at a fixed rate. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Dice } from '../lib/dice.js';
import type { Change, EtcdGateway } from '../lib/etcd-gateway.js';

const TICK_MS = 20;
const MOST_A_TICK = 100;
/** Some come under etcd leases, which end together after a while. */
const LEASED = 0.1;
const LEASE_ENDS_EVERY_MS = 3_000;
const LEASE_SECONDS = 60;

export class SoakChurn {
  /** Events that watchers of the store have been sent. */
  events = 0;
  private readonly stop = new AbortController();
  private readonly present = new Set<string>();
  private leased = new Set<string>();
  private running: Promise<void> | null = null;

  /** @param keys the keys to change, at least 200 */
  constructor(
    private readonly store: EtcdGateway,
    private readonly keys: readonly string[],
    private readonly dice: Dice,
    private readonly eventsPerSecond: number,
  ) {}

  start(): void {
    this.running = this.run();
  }

  /** Resolves when the last change is in the store. @throws Error where the store has refused one. */
  async end(): Promise<void> {
    this.stop.abort();
    await this.running;
  }

  private async run(): Promise<void> {
    const started = performance.now();
    let lease = await this.store.grant(LEASE_SECONDS);
    let leaseSince = started;
    while (!this.stop.signal.aborted) {
      const now = performance.now();
      if (now - leaseSince > LEASE_ENDS_EVERY_MS) {
        await this.store.revoke(lease);
        this.events += this.leased.size;
        for (const key of this.leased) this.present.delete(key);
        this.leased = new Set();
        lease = await this.store.grant(LEASE_SECONDS);
        leaseSince = now;
      }
      const due = Math.floor(((now - started) / 1000) * this.eventsPerSecond) - this.events;
      if (due > 0) await this.store.change(this.plan(Math.min(due, MOST_A_TICK), lease));
      await delay(TICK_MS);
    }
  }

  /** So many changes, each of which watchers are told of. */
  private plan(count: number, lease: string): Change[] {
    const first = this.dice.between(0, this.keys.length - 1);
    const changes: Change[] = [];
    for (let i = 0; i < count; i++) {
      const key = this.keys[(first + i) % this.keys.length] ?? '';
      this.leased.delete(key);
      if (this.present.has(key) && this.dice.chance(0.4)) {
        this.present.delete(key);
        changes.push({ key, value: null });
        continue;
      }
      this.present.add(key);
      const value = `{"PublicIP":"192.168.77.${this.dice.between(100, 200)}","PublicIPv6":null}`;
      if (this.dice.chance(LEASED)) {
        this.leased.add(key);
        changes.push({ key, value, lease });
      } else {
        changes.push({ key, value });
      }
    }
    this.events += count;
    return changes;
  }
}
