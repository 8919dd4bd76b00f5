/**
 * `node watch-and-end.js`: opens and closes subscriptions to network changes, has worker threads end in the middle of
 * one, and then ends itself with one open. Prints what was left over, as JSON.
 */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { Cidr4 } from '../../src/ip.js';
import { NetworkMonitor } from '../../src/netlink/monitor.js';
import { liveThreads } from './threads.js';

export interface WatchLeftovers {
  /** Threads and descriptors. */
  readonly before: readonly [number, number];
  readonly afterCycles: readonly [number, number];
  readonly afterTerminate: readonly [number, number];
}

const CYCLES = 200;
const TERMINATED_WORKERS = 20;
const OVERLAY = new Cidr4(0x0af40000, 16);

const holdings = (): [number, number] => [liveThreads(), readdirSync('/proc/self/fd').length];

async function terminateOne(): Promise<void> {
  const worker = new Worker(fileURLToPath(import.meta.url));
  await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  await worker.terminate();
}

if (isMainThread) {
  // Once beforehand: the runtime keeps some threads and descriptors from the first use on.
  new NetworkMonitor([OVERLAY]).close();
  await terminateOne();
  const before = holdings();
  for (let i = 0; i < CYCLES; i++) {
    const monitor = new NetworkMonitor([OVERLAY]);
    monitor.close();
    monitor.close();
  }
  const afterCycles = holdings();
  for (let i = 0; i < TERMINATED_WORKERS; i++) await terminateOne();
  const report: WatchLeftovers = { before, afterCycles, afterTerminate: holdings() };
  process.stdout.write(JSON.stringify(report));
  new NetworkMonitor([OVERLAY]); // must not keep this process from its end
} else {
  const monitor = new NetworkMonitor([OVERLAY]);
  const never = new AbortController().signal;
  await monitor.next(null, never);
  parentPort?.postMessage('watching');
  setInterval(() => undefined, 1000);
}
