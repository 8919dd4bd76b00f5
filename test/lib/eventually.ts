import { setTimeout as delay } from 'node:timers/promises';

/** For what takes a moment on an idle machine. */
const PATIENCE_MS = 30_000;

/**
 * Repeats `attempt` until it neither throws nor gives false; its last failure when that takes too long.
 * @param limit in milliseconds, or what says that it is over
 */
export async function eventually<T>(
  attempt: () => T | Promise<T>,
  limit: number | (() => boolean) = PATIENCE_MS,
): Promise<Exclude<T, false>> {
  const start = performance.now();
  const isOver = typeof limit === 'function' ? limit : () => performance.now() - start > limit;
  for (;;) {
    // Before the attempt: one that begins in time is in time, however long it takes.
    const last = isOver();
    try {
      const result = await attempt();
      if (result !== false) return result as Exclude<T, false>;
      if (last) {
        const ms = Math.round(performance.now() - start);
        throw new Error(`still not so after ${ms} ms: ${attempt.toString()}`);
      }
    } catch (error) {
      if (last) throw error;
    }
    await delay(20);
  }
}
