/** Malformed packets of every kind against a live daemon, from both sides, with good traffic beside them. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { endUnharmed, enrol, flood } from '../lib/hostile.js';
import { noLargeBuffers, TestNetwork } from '../lib/network.js';

const PACKETS = 100_000;
/** Far below what a daemon takes, so that the kernel's queues hold what comes while it waits for a processor. */
const RATE = 50_000;
const LEAST_KINDS = 20;

let network: TestNetwork;
before(async () => {
  network = await TestNetwork.create(3);
});
afterEach(() => network.stopAll());
after(() => network.close());

for (const tier of ['basic', 'full']) {
  test(
    `${tier}: ${PACKETS} packets harm nobody, and every one is accounted for`,
    { skip: noLargeBuffers() },
    async () => {
      await enrol(network, network.host(3));
      const [target, neighbour] = [1, 2].map((host) => network.start(host, `--dataplane-tier=${tier}`));
      assert(target && neighbour);
      await Promise.all([target.ready(2), neighbour.ready(2)]);
      const figures = await flood(network.host(3), target, neighbour, {
        packets: PACKETS,
        rate: RATE,
        seed: 1,
      });
      assert.ok(figures.outside.sent + figures.outside.refused >= PACKETS);
      assert.ok(Object.values(figures.outside.kinds).filter((count) => count > 0).length >= LEAST_KINDS);
      await endUnharmed(target, neighbour, figures);
    },
  );
}
