/** Every tier and every feature, forced by switch and by a kernel that refuses the calls: the payload is the same. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Daemon } from '../../bench/daemon.js';
import { failsWith, TestNetwork } from '../lib/network.js';
import type { Refusable } from '../lib/refuse.js';
import { refusing } from '../lib/refuse.js';
import { datagramsBothWays, endAccounted, streamBothWays } from '../lib/traffic.js';

const MIB = 1 << 20;
const BURSTS = 100;
const FEATURES = ['batch', 'gso', 'gro', 'tso', 'uso'];
const TIERS: Readonly<Record<'basic' | 'batch' | 'udp-offload' | 'full', readonly string[]>> = {
  basic: [],
  batch: ['batch'],
  'udp-offload': ['batch', 'gso', 'gro'],
  full: FEATURES,
};

let network: TestNetwork;
before(async () => {
  network = await TestNetwork.create(2);
});
afterEach(() => network.stopAll());
after(() => network.close());

/** The default tier less some features. */
function without(features: readonly string[]): string[] {
  return FEATURES.filter((name) => !features.includes(name));
}

/** Starts a daemon on each host, with flags of its own for each. */
async function startBoth(
  wrapper: readonly string[],
  flagsOfA: readonly string[],
  flagsOfB = flagsOfA,
): Promise<[Daemon, Daemon]> {
  const a = network.startBehind(wrapper, 1, ...flagsOfA);
  const b = network.startBehind(wrapper, 2, ...flagsOfB);
  await Promise.all([a.ready(1), b.ready(1)]);
  return [a, b];
}

function assertFeatures(daemon: Daemon, features: readonly string[]): void {
  assert.match(daemon.log, new RegExp(`Dataplane features: ${features.join(', ') || 'none'}\n`));
}

/** TCP and UDP both ways, and afterwards no feature was given up and every packet is accounted for. */
async function carryBothWays(a: Daemon, b: Daemon, mebibytes: number): Promise<void> {
  await streamBothWays(a, b, mebibytes * MIB);
  await datagramsBothWays(a, b, BURSTS);
  await endAccounted(a, b);
  for (const { log } of [a, b]) assert.doesNotMatch(log, /the kernel refuses/);
}

describe('tier', () => {
  for (const [tier, features] of Object.entries(TIERS)) {
    for (const threads of ['single', 'split']) {
      test(`${tier}, ${threads}`, async () => {
        const [a, b] = await startBoth([], [`--dataplane-tier=${tier}`, `--dataplane-threads=${threads}`]);
        for (const daemon of [a, b]) assertFeatures(daemon, features);
        await carryBothWays(a, b, 32);
        if (tier !== 'basic') return;
        for (const daemon of [a, b]) {
          const counters = daemon.counters();
          const calls = counters.get('encap_send_calls') ?? 0;
          assert.ok(calls >= (counters.get('encap_packets_out') ?? Infinity), 'one packet a system call');
        }
      });
    }
  }

  test('basic on one host and full on the other', async () => {
    const [a, b] = await startBoth([], ['--dataplane-tier=basic'], ['--dataplane-tier=full']);
    assertFeatures(a, TIERS.basic);
    assertFeatures(b, TIERS.full);
    await carryBothWays(a, b, 32);
  });
});

describe('several', () => {
  for (const several of ['queues', 'source-ports']) {
    for (const threads of ['single', 'split']) {
      test(`${several}, ${threads}`, async () => {
        const [a, b] = await startBoth([], [`--dataplane-${several}=4`, `--dataplane-threads=${threads}`]);
        for (const daemon of [a, b]) assertFeatures(daemon, FEATURES);
        await carryBothWays(a, b, 16);
      });
    }
  }
});

describe('switched off:', () => {
  for (const disabled of [['batch'], ['gso'], ['gro'], ['tso'], ['uso'], ['gso', 'gro'], ['tso', 'uso']]) {
    test(disabled.join(','), async () => {
      const [a, b] = await startBoth([], [`--dataplane-disable=${disabled.join(',')}`]);
      for (const daemon of [a, b]) assertFeatures(daemon, without(disabled));
      await carryBothWays(a, b, 16);
    });
  }
});

describe('a kernel without', () => {
  const kernels: { calls: Refusable[]; lacks: string[]; tier: keyof typeof TIERS }[] = [
    { calls: ['recvmmsg'], lacks: ['batch'], tier: 'batch' },
    { calls: ['sendmmsg'], lacks: ['batch'], tier: 'full' },
    { calls: ['UDP_SEGMENT'], lacks: ['gso'], tier: 'udp-offload' },
    { calls: ['UDP_GRO'], lacks: ['gro'], tier: 'udp-offload' },
    { calls: ['TUN_F_USO'], lacks: ['uso'], tier: 'full' },
    { calls: ['TUNSETOFFLOAD'], lacks: ['tso', 'uso'], tier: 'full' },
    {
      calls: ['recvmmsg', 'sendmmsg', 'UDP_SEGMENT', 'UDP_GRO', 'TUNSETOFFLOAD'],
      lacks: FEATURES,
      tier: 'full',
    },
  ];
  for (const { calls, lacks, tier } of kernels) {
    test(`${calls.join(', ')}: the rest is used`, async () => {
      const [a, b] = await startBoth(await refusing(calls), []);
      for (const daemon of [a, b]) assertFeatures(daemon, without(lacks));
      await carryBothWays(a, b, 16);
    });

    test(`${calls.join(', ')}: tier ${tier} is refused, and the remedy helps`, async () => {
      const wrapper = await refusing(calls);
      const named = `--dataplane-tier=${tier}`;
      const remedy = `--dataplane-disable=${lacks.join(',')}`;
      await failsWith(
        network.startBehind(wrapper, 1, named),
        1,
        new RegExp(
          `this kernel lacks ${lacks.join(', ')}, which --dataplane-tier asks for: ` +
            `choose a lower tier, auto, or ${remedy}$`,
          'm',
        ),
      );
      const mended = network.startBehind(wrapper, 1, named, remedy);
      await mended.logged(/flannel is ready/);
      assertFeatures(
        mended,
        TIERS[tier].filter((name) => !lacks.includes(name)),
      );
    });
  }
});
