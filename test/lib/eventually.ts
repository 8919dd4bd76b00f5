import { setTimeout as delay } from 'node:timers/promises';

/** Repeats `attempt` until it neither throws nor gives false; its last failure after `ms` milliseconds. */
export async function eventually<T>(attempt: () => T | Promise<T>, ms = 10_000): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    try {
      const result = await attempt();
      if (result !== false) return result;
      if (Date.now() > end) throw new Error(`still not so after ${ms} ms: ${attempt.toString()}`);
    } catch (error) {
      if (Date.now() > end) throw error;
    }
    await delay(20);
  }
}
