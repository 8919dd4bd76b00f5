/** Other hosts that come, change and go all the time: about 25 changes a second while it runs. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Dice } from '../lib/dice.js';
import type { EtcdGateway } from '../lib/etcd-gateway.js';
import { World } from './world.js';

const PAUSE_MS = 40;
const LEASE_SECONDS = 300;

export class Churn {
  private running: Promise<void> | null = null;
  private stop = new AbortController();
  /** Changes that etcd has taken. */
  changes = 0;

  constructor(private readonly store: EtcdGateway) {}

  /** What it does derives from the dice; how much of that the store takes while it is broken does not. */
  start(dice: Dice): void {
    this.stop = new AbortController();
    this.running = this.run(dice, this.stop.signal);
  }

  /** Resolves when its last change is over. */
  async end(): Promise<void> {
    this.stop.abort();
    await this.running;
    this.running = null;
  }

  private async run(dice: Dice, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.change(dice);
        this.changes++;
      } catch {
        // The store is away, which is what this is about.
      }
      await delay(PAUSE_MS);
    }
  }

  private async change(dice: Dice): Promise<void> {
    const key = World.foreignKey(dice.between(0, 1000));
    const what = dice.next();
    if (what < 0.35) {
      await this.store.delete(key);
    } else if (what < 0.9) {
      await this.store.put(key, foreignValue(dice));
    } else {
      const lease = await this.store.grant(LEASE_SECONDS);
      await this.store.put(key, foreignValue(dice), lease);
      if (what > 0.95) await this.store.revoke(lease);
    }
  }
}

/** What a host that does not exist announces. */
export function foreignValue(dice: Dice): string {
  return `{"PublicIP":"192.168.77.${dice.between(100, 200)}","PublicIPv6":null}`;
}
