/** The native core as a guest of a Node process: whatever ends it, nothing stays. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Topology } from '../../bench/topology.js';
import type { Leftovers } from '../lib/open-and-close.js';

const CYCLES = 200;
const script = (name: string) => fileURLToPath(new URL(`../lib/${name}.js`, import.meta.url));

let topology: Topology;
before(async () => {
  topology = await Topology.create(1);
});
after(() => topology.close());

test(`${CYCLES} dataplanes under traffic and worker.terminate() leave no thread, descriptor, link or route`, async () => {
  const [host] = topology.hosts;
  assert.ok(host);
  const flood = host.spawn(process.execPath, [script('flood')], { stdio: 'ignore' });
  try {
    const { stdout } = await host.exec(process.execPath, script('open-and-close'), String(CYCLES));
    const report = JSON.parse(stdout) as Leftovers;
    assert.equal(report.before.tunLinks, 0);
    assert.equal(report.before.overlayRoutes, 0);
    assert.deepEqual(report.afterCycles, report.before);
    assert.deepEqual(report.afterTerminate, report.before);
    assert.ok(Math.min(...report.moved) >= CYCLES);
  } finally {
    flood.kill();
    await once(flood, 'close');
  }
});
