/** Announcements of the kernel: which ones count, what a flood of them does, and what is left at the end. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { openNetlinkEvents } from '../../src/dataplane.js';
import { Cidr4 } from '../../src/ip.js';
import { NetworkMonitor } from '../../src/netlink/monitor.js';
import { eventually } from '../lib/eventually.js';
import type { WatchLeftovers } from '../lib/watch-and-end.js';

const run = promisify(execFile);
const OVERLAY = new Cidr4(0x0af40000, 16); // 10.244.0.0
const PATIENCE_MS = 30_000;
const QUIET_MS = 1000;
const forever = new AbortController().signal;

// This process itself stands in the lab's own namespace, and so does what it watches.
before(() => run('ip', ['link', 'add', 'watched', 'up', 'type', 'bridge']));
after(() => run('ip', ['link', 'delete', 'watched']));

/** A monitor that has nothing to tell (any more). */
async function quiet<T>(use: (monitor: NetworkMonitor) => Promise<T>): Promise<T> {
  const monitor = new NetworkMonitor([OVERLAY]);
  try {
    await monitor.next(null, forever);
    return await use(monitor);
  } finally {
    monitor.close();
  }
}

/** Whether it tells of a change; `ms` is long where it has to, and short where it must not. */
async function tells(monitor: NetworkMonitor, ms = PATIENCE_MS): Promise<boolean> {
  const late = new AbortController();
  // Not AbortSignal.timeout(): neither that nor the monitor keeps this process alive.
  const timer = setTimeout(() => {
    late.abort();
  }, ms);
  try {
    return await monitor.next(null, late.signal);
  } finally {
    clearTimeout(timer);
  }
}

describe('a monitor tells of', () => {
  const changes: [string, string[], string[]][] = [
    ['a new link', ['link', 'add', 'spare', 'type', 'bridge'], ['link', 'delete', 'spare']],
    ['an MTU', ['link', 'set', 'watched', 'mtu', '1400'], ['link', 'set', 'watched', 'mtu', '1500']],
    ['a state', ['link', 'set', 'watched', 'down'], ['link', 'set', 'watched', 'up']],
    [
      'an address',
      ['address', 'add', '10.9.9.1/24', 'dev', 'watched'],
      ['address', 'delete', '10.9.9.1/24', 'dev', 'watched'],
    ],
    [
      'a default route',
      ['route', 'add', 'default', 'dev', 'watched'],
      ['route', 'delete', 'default', 'dev', 'watched'],
    ],
    [
      'the route of the overlay',
      ['route', 'add', '10.244.0.0/16', 'dev', 'watched'],
      ['route', 'delete', '10.244.0.0/16', 'dev', 'watched'],
    ],
  ];
  for (const [name, there, back] of changes) {
    test(`${name}, there and back`, () =>
      quiet(async (monitor) => {
        for (const change of [there, back]) {
          await run('ip', change);
          assert.equal(await tells(monitor), true, change.join(' '));
        }
      }));
  }

  test('no other routes', () =>
    quiet(async (monitor) => {
      for (const route of [['10.99.0.0/16'], ['10.244.0.0/17'], ['10.244.0.0/16', 'table', '77']]) {
        await run('ip', ['route', 'add', ...route, 'dev', 'watched']);
        await run('ip', ['route', 'delete', ...route, 'dev', 'watched']);
      }
      assert.equal(await tells(monitor, QUIET_MS), false);
    }));

  test('a burst in few words', () =>
    quiet(async (monitor) => {
      const batch = Array.from({ length: 100 }, (_, i) => `link set watched mtu ${1300 + i}`).join('\n');
      execFileSync('ip', ['-batch', '-'], { input: batch });
      let told = 0;
      while (await tells(monitor, told === 0 ? PATIENCE_MS : QUIET_MS)) told++;
      assert.ok(told >= 1 && told <= 3, `${told} times`);
    }));
});

test('an overrun is told, and what comes after it as well', async () => {
  let readable = 0;
  const events = openNetlinkEvents('route', [7], () => readable++);
  try {
    const batch = ['add', 'delete'].flatMap((word) =>
      Array.from({ length: 5000 }, (_, i) => `route ${word} 10.98.${i >> 8}.${i & 255}/32 dev watched`),
    );
    // Synchronously, so that nobody reads in the meantime.
    execFileSync('ip', ['-batch', '-'], { input: batch.join('\n') });
    await eventually(() => readable > 0);
    const { messages, overrun } = events.read();
    assert.ok(overrun && messages.length > 0 && messages.length < 10_000, `${messages.length} messages`);
    while (events.read().messages.length > 0);
    const before = readable;
    await run('ip', ['route', 'add', 'default', 'dev', 'watched']);
    await eventually(() => readable > before);
    assert.deepEqual([events.read().messages.length, events.read().overrun], [1, false]);
    await run('ip', ['route', 'delete', 'default', 'dev', 'watched']);
  } finally {
    events.close();
  }
  assert.deepEqual(events.read(), { messages: [], overrun: false });
});

test('a monitor tells of an overrun', () =>
  quiet(async (monitor) => {
    const batch = ['add', 'delete'].flatMap((word) =>
      Array.from({ length: 5000 }, (_, i) => `route ${word} 10.98.${i >> 8}.${i & 255}/32 dev watched`),
    );
    execFileSync('ip', ['-batch', '-'], { input: batch.join('\n') });
    assert.equal(await tells(monitor), true);
  }));

test('a closed subscription, a terminated worker and an ended process leave nothing and wait for nothing', async () => {
  const script = fileURLToPath(new URL('../lib/watch-and-end.js', import.meta.url));
  let mtu = 1400;
  const flapping = setInterval(() => {
    mtu = mtu === 1400 ? 1500 : 1400;
    execFileSync('ip', ['link', 'set', 'watched', 'mtu', String(mtu)]);
  }, 20);
  try {
    const { stdout } = await run(process.execPath, [script], { timeout: 300_000 });
    const { before, afterCycles, afterTerminate } = JSON.parse(stdout) as WatchLeftovers;
    assert.deepEqual(afterCycles, before);
    assert.deepEqual(afterTerminate, before);
  } finally {
    clearInterval(flapping);
  }
});
