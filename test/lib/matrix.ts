/** Tiers, underlays of all sizes, and families inside and around: whatever is combined, payload arrives as it was sent. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Daemon, Family } from '../../bench/daemon.js';
import { LEAST_IPV6_MTU } from '../../src/ip6.js';
import { FAMILIES } from './ipv6-networks.js';
import { failsWith, TestNetwork } from './network.js';
import { datagramsBothWays, endAccounted, streamBothWays } from './traffic.js';

export const TIERS = ['basic', 'batch', 'udp-offload', 'full'] as const;
/** What IPv4 and IPv6 want everyone to take, Ethernet, jumbo frames, and the most that a device has. */
export const UNDERLAYS = [576, 1280, 1500, 9000, 65520] as const;

export interface Cell {
  readonly tier: (typeof TIERS)[number];
  /** MTU of the hosts' links, in bytes. */
  readonly underlay: number;
  readonly outer: Family;
  readonly inner: Family;
}

const STREAM_BYTES = 4 << 20;
const BURSTS = 20;

/** All that there are. */
export function allCells(): Cell[] {
  const cells: Cell[] = [];
  for (const underlay of UNDERLAYS)
    for (const outer of [4, 6] as const)
      for (const inner of [4, 6] as const)
        for (const tier of TIERS) cells.push({ tier, underlay, outer, inner });
  return cells;
}

/** Declares one test a cell; those with the same underlay share their hosts. */
export function testCells(cells: readonly Cell[]): void {
  for (const underlay of new Set(cells.map((cell) => cell.underlay))) {
    describe(`an underlay with an MTU of ${underlay}`, () => {
      let network: TestNetwork;
      before(async () => {
        network = await TestNetwork.create(2, { mtu: underlay });
      });
      afterEach(async () => {
        await network.stopAll();
        await network.emptyStore();
      });
      after(() => network.close());

      for (const cell of cells.filter((each) => each.underlay === underlay)) {
        test(`${cell.tier}, IPv${cell.inner} over IPv${cell.outer}`, async () => {
          await network.configure(FAMILIES[`${cell.inner}/${cell.outer}`]);
          if (needsIpv6(cell) && underlay < LEAST_IPV6_MTU) await isRefused(network, cell);
          else await carries(network, cell);
        });
      }
    });
  }
}

const needsIpv6 = ({ inner, outer }: Cell) => inner === 6 || outer === 6;

/** The kernel has no IPv6 address on a link as small as this. */
async function isRefused(network: TestNetwork, { tier }: Cell): Promise<void> {
  await failsWith(network.start(1, `--dataplane-tier=${tier}`), 1, /unable to find default v6 route/);
}

async function carries(network: TestNetwork, cell: Cell): Promise<void> {
  const [a, b] = await network.startAll(`--dataplane-tier=${cell.tier}`);
  assert.ok(a && b);
  assert.equal(a.subnetEnv('FLANNEL_MTU'), String(overlayMtu(cell)));
  await isFilled(a, b, cell);
  await streamBothWays(a, b, STREAM_BYTES, cell.inner);
  await datagramsBothWays(a, b, BURSTS, cell.inner);
  await endAccounted(a, b);
}

function overlayMtu({ underlay, outer, inner }: Cell): number {
  const fits = underlay - (outer === 4 ? 28 : 48);
  return inner === 6 ? Math.max(fits, LEAST_IPV6_MTU) : fits;
}

/** An echo in a packet that has not a byte to spare. */
async function isFilled(a: Daemon, b: Daemon, cell: Cell): Promise<void> {
  const size = overlayMtu(cell) - (cell.inner === 4 ? 28 : 48);
  const { stdout } = await a.host.exec(
    'ping',
    ...['-n', '-c', '1', '-W', '5', '-M', 'do', '-s', String(size), b.addressOf(cell.inner)],
  );
  assert.match(stdout, / 1 received/);
}
