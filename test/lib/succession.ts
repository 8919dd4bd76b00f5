import assert from 'node:assert/strict';
import type { Daemon } from '../../bench/daemon.js';
import { eventually } from './eventually.js';

/** A hand-over is called off where somebody gets no processor in time; whoever forwarded goes on, as it should. */
const CALLED_OFF =
  /took the dataplane back \(|does not hand over: (?:it did not begin in time|the owner has packets)/;
const MOST_TRIES = 10;
const LATE_MS = 60_000;

/** The next flanneld takes over from a running one, which has ended then. */
export async function handOver(from: Daemon, start: () => Daemon): Promise<Daemon> {
  const next = await succeed(start, () => from.exitCode !== null);
  await from.ended();
  assert.match(from.log, /Handed over/);
  return next;
}

/**
 * Starts the next flanneld, once more where that is called off, and resolves with it when it is in its place.
 * @param isDone that it is: its predecessor has ended, for instance
 */
export async function succeed(start: () => Daemon, isDone: (next: Daemon) => boolean): Promise<Daemon> {
  for (let tries = 1; ; tries++) {
    const next = start();
    await eventually(() => {
      assert.ok(isDone(next) || next.exitCode !== null, next.log);
    }, LATE_MS);
    if (next.exitCode === null) return next;
    await next.ended();
    assert.match(next.log, CALLED_OFF);
    assert.ok(tries < MOST_TRIES, next.log);
  }
}
