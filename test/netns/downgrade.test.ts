/** A kernel that refuses at run time what it took at first: every packet arrives all the same, and is accounted for. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import type { Family } from '../../bench/daemon.js';
import { FAMILIES } from '../lib/ipv6-networks.js';
import { TestNetwork } from '../lib/network.js';
import { refusingLater } from '../lib/refuse.js';
import { datagramsBothWays, endAccounted, streamBothWays } from '../lib/traffic.js';

const BYTES = 16 << 20;
const BURSTS = 50;
/** So many that the refusal comes in the middle of a stream. */
const PASSES = 50;

let network: TestNetwork;
before(async () => {
  network = await TestNetwork.create(2);
});
afterEach(async () => {
  await network.stopAll();
  await network.emptyStore();
});
after(() => network.close());

for (const [inner, outer] of [
  [4, 4],
  [6, 4],
  [6, 6],
] as const satisfies [Family, Family][]) {
  for (const feature of ['gso', 'tso'] as const) {
    test(`IPv${inner} over IPv${outer}: ${feature} is given up in the middle of a stream`, async () => {
      await network.configure(FAMILIES[`${inner}/${outer}`]);
      const wrapper = await refusingLater(feature, PASSES);
      const [a, b] = [network.startBehind(wrapper, 1), network.startBehind(wrapper, 2)];
      await Promise.all([a.ready(1), b.ready(1)]);
      for (const { log } of [a, b]) assert.match(log, new RegExp(`Dataplane features: .*\\b${feature}\\b`));
      await streamBothWays(a, b, BYTES, inner);
      await datagramsBothWays(a, b, BURSTS, inner);
      const line = new RegExp(`the kernel refuses ${feature} at run time; going on without it`, 'g');
      for (const daemon of [a, b]) await daemon.logged(new RegExp(line.source));
      await endAccounted(a, b);
      for (const { log } of [a, b]) assert.equal(log.match(line)?.length, 1, 'told once');
    });
  }
}
