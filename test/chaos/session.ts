/** Faults one after the other, and what has to hold during and after each. */
import assert from 'node:assert/strict';
import { Dice } from '../lib/dice.js';
import { eventually } from '../lib/eventually.js';
import { Churn } from '../lib/churn.js';
import { changeForeignLease } from './churn.js';
import type { Fault } from './fault.js';
import { FAULTS } from './faults/registry.js';
import { Watchdog } from './watchdog.js';
import type { World } from './world.js';

/** No route has been away for longer than that while leases were; the time in which a store is begun anew included. */
const LEASELESS_GAP_MS = 20_000;
/** What the machine itself may hold up. */
const GAP_MS = 1_000;

/** A fault that has healed. */
export interface Episode {
  readonly fault: Fault;
  /** From the end of the fault until all was well. */
  readonly healedMs: number;
  /** Packets of the probe, both directions together. */
  readonly lost: number;
  /** The longest time between two packets in one direction. */
  readonly gapMs: number;
}

/** Some fault did not heal, or something happened that must not. */
export class ChaosError extends Error {
  constructor(
    /** The number of the fault. */
    readonly fault: number,
    /** What the daemons said since it began. */
    readonly logs: string,
    cause: unknown,
  ) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** The faults of a seed, from the first on: each kind once before any comes again. */
export function* faultsOf(seed: string, world: World): Generator<Fault> {
  const possible = FAULTS.filter((fault) => fault.missing?.(world) === undefined);
  for (let round = 0; ; round++) yield* new Dice(`${seed} round ${round}`).shuffled(possible);
}

export class Session {
  private readonly churn: Churn;
  private readonly watchdog: Watchdog;
  /** Numbers missing so far, each direction. */
  private missing = [0, 0];
  private received = [0, 0];

  constructor(
    private readonly world: World,
    private readonly seed: string,
    private readonly print: (line: string) => void,
  ) {
    this.churn = new Churn((dice) => changeForeignLease(world.store, dice));
    this.watchdog = new Watchdog(world);
  }

  /** Changes of leases of others that went on beside the faults. */
  get changes(): number {
    return this.churn.changes;
  }

  /** Resolves once the traffic flows; none of it is lost without a fault either. */
  async begin(): Promise<void> {
    await eventually(async () => {
      const progress = await this.world.traffic.progress();
      this.received = progress.map(({ received }) => received);
      return this.received.every((received) => received > 500);
    });
    const progress = await this.world.traffic.progress();
    assert.deepEqual(
      progress.map(({ missing }) => missing),
      [0, 0],
      'packets are lost before the first fault',
    );
  }

  /** @throws ChaosError */
  async run(number: number, fault: Fault): Promise<Episode> {
    const { world } = this;
    const said = world.daemons.map(({ log }) => log.length);
    const first = world.daemons;
    try {
      return await this.attempt(number, fault);
    } catch (error) {
      const logs = world.daemons.map((daemon, i) => {
        const text = daemon.log.slice(daemon === first[i] ? said[i] : 0);
        return `--- the daemon on host ${i + 1}:\n${withoutPeers(text)}`;
      });
      throw new ChaosError(number, logs.join('\n'), error);
    }
  }

  async end(): Promise<void> {
    await this.churn.end();
    await this.watchdog.end();
  }

  private async attempt(number: number, fault: Fault): Promise<Episode> {
    const { world, churn } = this;
    const dice = new Dice(`${this.seed} fault ${number}`);
    const say = (text: string) => {
      this.print(`${new Date().toISOString().slice(11, 23)} ${number} ${fault.name}: ${text}`);
    };
    const settled = async () => {
      await churn.end();
      await world.settled();
      this.watchdog.verify();
    };
    churn.start(dice.fork('churn'));
    await fault.run({ world, dice, say, settled });
    const over = performance.now();
    await settled();
    const healedMs = performance.now() - over;
    return { fault, healedMs, ...(await this.traffic(fault)) };
  }

  /** What the probe lost since the last fault. */
  private async traffic(fault: Fault): Promise<Pick<Episode, 'lost' | 'gapMs'>> {
    const progress = await this.world.traffic.progress();
    const before = { missing: this.missing, received: this.received };
    this.missing = progress.map(({ missing }) => missing);
    this.received = progress.map(({ received }) => received);
    const lost = this.missing.reduce((sum, missing, i) => sum + missing - (before.missing[i] ?? 0), 0);
    const gapMs = Math.max(...progress.map((direction) => direction.gapMs));
    for (const [i, received] of this.received.entries()) {
      assert.ok(received > (before.received[i] ?? 0), 'packets no longer arrive');
    }
    if (fault.takesLeases !== true)
      assert.equal(lost, 0, `${lost} packets lost, the longest gap ${gapMs} ms`);
    const most = fault.takesLeases === true ? LEASELESS_GAP_MS : GAP_MS;
    assert.ok(gapMs < most, `nothing arrived for ${gapMs} ms`);
    return { lost, gapMs };
  }
}

/** A log without the lines that tell of peers, which are most. */
function withoutPeers(log: string): string {
  return log
    .split('\n')
    .filter((line) => !line.includes('Subnet added') && !line.includes('Subnet removed'))
    .join('\n');
}
