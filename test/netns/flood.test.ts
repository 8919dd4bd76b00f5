/** Malformed packets of every kind against a live daemon, from both sides, with good traffic beside them. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { endUnharmed, flood, OPEN_TO_ALL } from '../lib/hostile.js';
import { CONFIG, noLargeBuffers, TestNetwork } from '../lib/network.js';

const PACKETS = 100_000;
/** Far below what a daemon takes, so that the kernel's queues hold what comes while it waits for a processor. */
const RATE = 50_000;
const LEAST_KINDS = 20;

let network: TestNetwork | undefined;
afterEach(async () => {
  await network?.stopAll();
  await network?.close();
  network = undefined;
});

for (const { tier, open } of [
  { tier: 'basic', open: true },
  { tier: 'full', open: true },
  { tier: 'full', open: false },
]) {
  const from = open ? 'anybody' : 'members alone';
  test(
    `${tier}, taking packets from ${from}: ${PACKETS} harm nobody, and every one is accounted for`,
    { skip: noLargeBuffers() },
    async () => {
      const made = await TestNetwork.create(3, { config: open ? OPEN_TO_ALL : CONFIG });
      network = made;
      const [target, neighbour] = [1, 2].map((host) => made.start(host, `--dataplane-tier=${tier}`));
      assert(target && neighbour);
      await Promise.all([target.ready(1), neighbour.ready(1)]);
      const figures = await flood(made.host(3), target, neighbour, {
        packets: PACKETS,
        rate: RATE,
        seed: 1,
      });
      assert.ok(figures.outside.sent + figures.outside.refused >= PACKETS);
      assert.ok(Object.values(figures.outside.kinds).filter((count) => count > 0).length >= LEAST_KINDS);
      await endUnharmed(target, neighbour, figures, { open });
    },
  );
}
