import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { FlannelError } from '../../src/errors.js';
import { HostFollower } from '../../src/host-follower.js';
import { describeAddress, selectInterface } from '../../src/iface/external-interface.js';
import type { ExternalInterface, InterfaceChoice } from '../../src/iface/external-interface.js';
import { hostNetwork, NO_CHOICE } from '../lib/host-network.js';
import type { HostSketch } from '../lib/host-network.js';
import { captureLog } from '../lib/store.js';

const FIRST: HostSketch = { eth0: ['192.168.77.1'], flannel0: [], default: 'eth0' };

/** A backend that moves where it is told to, unless it is told to fail. */
class FakeNetwork {
  readonly device = 'flannel0';
  mtu = 1472;
  moves: string[] = [];
  refuses: string | null = null;
  repaired = true;

  moveTo(external: ExternalInterface): void {
    if (this.refuses !== null) throw new FlannelError(this.refuses);
    this.moves.push(`${external.name} ${describeAddress(external)}`);
    this.mtu = external.mtu - 28;
  }
  repair(): boolean {
    return this.repaired;
  }
}

let lines: string[];
let network: FakeNetwork;
let announced: number;
beforeEach(() => {
  lines = captureLog();
  network = new FakeNetwork();
  announced = 0;
});

function follower(given: Partial<InterfaceChoice> = {}): (host: HostSketch) => Promise<boolean> {
  const choice = { ...NO_CHOICE, ...given };
  const external = selectInterface(choice, hostNetwork(FIRST));
  lines.length = 0;
  const followed = new HostFollower(choice, external, network, () => {
    announced++;
    return Promise.resolve();
  });
  return (host) => followed.follow(() => hostNetwork(host));
}

/** The text of the lines since the last call, without what stands in front of it. */
const said = () =>
  lines.splice(0).map((line) => `${line.charAt(0)} ${line.replace(/^[^\]]*\] /, '').trim()}`);

test('a host that stays as it was makes no line and no move', async () => {
  const follow = follower();
  assert.equal(await follow(FIRST), true);
  assert.deepEqual([network.moves, announced, said()], [[], 0, []]);
});

test('another address: one move, one announcement, one line', async () => {
  const follow = follower();
  const there = { ...FIRST, eth0: ['192.168.77.5'] };
  assert.equal(await follow(there), true);
  assert.equal(await follow(there), true);
  assert.deepEqual([network.moves, announced], [['eth0 192.168.77.5'], 1]);
  assert.deepEqual(said(), [
    'I Using interface with name eth0 and address 192.168.77.5, until now interface with name eth0 and address ' +
      '192.168.77.1; using 192.168.77.5 as external address',
  ]);
});

test('another MTU: one move, one line', async () => {
  const follow = follower();
  assert.equal(await follow({ ...FIRST, mtu: { eth0: 1400 } }), true);
  assert.equal(network.mtu, 1372);
  assert.deepEqual(said(), ['I MTU of eth0 is 1400, so that of flannel0 is 1372 now']);
});

test('a public IP given by flag is not announced anew', async () => {
  const follow = follower({ publicIp: '203.0.113.7' });
  await follow({ ...FIRST, eth0: ['192.168.77.5'] });
  assert.deepEqual(network.moves, ['eth0 192.168.77.5']);
  assert.doesNotMatch(said().join(), /external address/);
});

describe('an address that is lost', () => {
  test('is one line, and one more when it is back', async () => {
    const follow = follower();
    for (let i = 0; i < 3; i++) assert.equal(await follow({ ...FIRST, eth0: [] }), true);
    assert.deepEqual(said(), [
      'W lost 192.168.77.1 on eth0, and there is no other (interface eth0 has no usable IPv4 address: give it one ' +
        'or choose another); going on as far as possible until there is an address again',
    ]);
    await follow(FIRST);
    await follow(FIRST);
    assert.deepEqual([network.moves, said()], [[], ['I 192.168.77.1 is back on eth0']]);
  });

  test('is followed by the next one that comes', async () => {
    const follow = follower();
    await follow({ ...FIRST, eth0: [] });
    said();
    await follow({ ...FIRST, eth0: ['192.168.77.9'] });
    assert.deepEqual([network.moves, announced, said().length], [['eth0 192.168.77.9'], 1, 1]);
  });

  test('does not keep the device from being repaired', async () => {
    const follow = follower();
    network.repaired = false;
    assert.equal(await follow({ ...FIRST, eth0: [] }), false);
  });
});

test('a link that goes down and comes up is one line each', async () => {
  const follow = follower();
  for (let i = 0; i < 2; i++) await follow({ ...FIRST, down: ['eth0'], default: null });
  assert.deepEqual(said(), ['W eth0 is down: no packets from or to other hosts until it is up again']);
  for (let i = 0; i < 2; i++) await follow(FIRST);
  assert.deepEqual(said(), ['I eth0 is up again']);
  assert.deepEqual(network.moves, []);
});

test('a move that fails is said once and tried again until it works', async () => {
  const follow = follower();
  const there = { ...FIRST, eth0: ['192.168.77.5'] };
  network.refuses = 'UDP 192.168.77.5:8285 is taken';
  for (let i = 0; i < 3; i++) assert.equal(await follow(there), false);
  assert.deepEqual(said(), [
    'E cannot follow to interface with name eth0 and address 192.168.77.5, trying on: UDP 192.168.77.5:8285 is taken',
  ]);
  network.refuses = null;
  assert.equal(await follow(there), true);
  assert.deepEqual(network.moves, ['eth0 192.168.77.5']);
});

test('a move that failed half-way is taken back when the host is as before', async () => {
  const follow = follower();
  network.refuses = 'no';
  assert.equal(await follow({ ...FIRST, eth0: ['192.168.77.5'] }), false);
  network.refuses = null;
  assert.equal(await follow(FIRST), true);
  assert.deepEqual(network.moves, ['eth0 192.168.77.1']);
  assert.equal(announced, 2);
});

test('the own device is not taken for the way to other hosts', async () => {
  const follow = follower();
  await follow({ ...FIRST, flannel0: ['10.244.3.0'], default: 'flannel0' });
  assert.deepEqual([network.moves, said()], [[], []]);
});
