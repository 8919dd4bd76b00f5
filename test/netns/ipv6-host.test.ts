/** What the kernel of a host and its containers see of IPv6 on the overlay. */
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, test } from 'node:test';
import type { Daemon } from '../../bench/daemon.js';
import { tcpStream } from '../../bench/probes.js';
import type { Host } from '../../bench/topology.js';
import { DUAL } from '../lib/ipv6-networks.js';
import { TestNetwork } from '../lib/network.js';
import { Pod } from '../lib/pods.js';

const BYTES = 1 << 20;
/** The kernel looks for routers and for doubles of its addresses, and tells its groups, within less. */
const CHATTER_MS = 3000;

let network: TestNetwork;
beforeEach(async () => {
  network = await TestNetwork.create(2, { config: DUAL });
});
afterEach(() => network.close());

/** Packets that the kernel has given to the device, whether flanneld has sent them or not. */
async function packetsInto({ host }: Daemon): Promise<number> {
  const link = JSON.parse(await host.ip('-j', '-s', 'link', 'show', 'flannel0')) as {
    stats64: { tx: { packets: number; dropped: number } };
  }[];
  const { tx } = link[0]?.stats64 ?? { tx: { packets: NaN, dropped: NaN } };
  return tx.packets + tx.dropped;
}

test('the kernel says nothing on the device of its own, from the start or after a repair', async () => {
  const [a, b] = await network.startAll();
  assert.ok(a && b);
  await delay(CHATTER_MS);
  await a.host.ip('-6', 'address', 'delete', `${a.overlayAddress6}/128`, 'dev', 'flannel0');
  await a.logged(/restored [^\n]*address fd00:10:244:/);
  await b.host.ip('link', 'set', 'flannel0', 'down');
  await b.logged(/restored [^\n]*state up/);
  await delay(CHATTER_MS);
  for (const daemon of [a, b]) {
    assert.equal(await packetsInto(daemon), 0);
    assert.equal(await daemon.stop(), 0);
    for (const counter of ['encap_packets_in', 'decap_packets_in']) {
      assert.equal(daemon.counters().get(counter), 0, counter);
    }
  }
});

describe('containers behind a bridge with the first address of the subnet', () => {
  let pods: Pod[];
  afterEach(() => Promise.all(pods.map((pod) => pod.close())));

  async function startWithPods(): Promise<{ a: Daemon; b: Daemon; podA: Pod; podB: Pod }> {
    pods = [];
    const [a, b] = await network.startAll();
    assert.ok(a && b);
    const [podA, podB] = [await Pod.create(a), await Pod.create(b)];
    pods = [podA, podB];
    return { a, b, podA, podB };
  }

  /** Answers come from the address itself: another one's would be lost on whoever asked. */
  async function reaches(from: Host, address: string): Promise<void> {
    const { stdout } = await from.exec('sh', '-c', `ping -n -c 3 -i 0.1 -W 2 ${address} || true`);
    assert.equal(stdout.split(` bytes from ${address}: `).length - 1, 3, `from ${from.name}:\n${stdout}`);
  }

  /** From another host and its container: the device, the bridge and the container of this one. */
  async function isReachable(daemon: Daemon, pod: Pod, from: readonly Host[]): Promise<void> {
    for (const host of from) {
      for (const address of [daemon.overlayAddress6, `${daemon.overlayAddress6}1`, pod.address6]) {
        await reaches(host, address);
        if (address !== pod.address6) await tcpStream(host, daemon.host, address, { bytes: BYTES });
      }
    }
    for (const host of from) await tcpStream(host, pod, pod.address6, { bytes: BYTES });
  }

  test('both are reached from the other side, and the device by the address that it has', async () => {
    const { a, b, podA, podB } = await startWithPods();
    await isReachable(b, podB, [a.host, podA]);
    // A router has the first address of each subnet as an anycast one as well: the device's stays its own.
    await b.host.ip('-6', 'address', 'delete', `${b.overlayAddress6}/128`, 'dev', 'flannel0');
    await b.logged(/restored [^\n]*address fd00:10:244:/);
    await isReachable(b, podB, [a.host, podA]);
  });

  test('every hop between two of them shows itself', async () => {
    const { a, b, podA, podB } = await startWithPods();
    const hops = [`${a.overlayAddress6}1`, a.overlayAddress6, b.overlayAddress6];
    for (const [i, hop] of hops.entries()) {
      const { stdout } = await podA.exec(
        'sh',
        '-c',
        `ping -n -c 1 -W 5 -t ${i + 1} ${podB.address6} || true`,
      );
      assert.match(stdout, new RegExp(`From ${hop} icmp_seq=1 Time exceeded: Hop limit`));
    }
    const nowhere = 'fd00:10:244:ffff::5';
    const { stdout } = await podA.exec('sh', '-c', `ping -n -c 1 -W 5 ${nowhere} || true`);
    assert.match(
      stdout,
      new RegExp(`From ${a.overlayAddress6} icmp_seq=1 Destination unreachable: No route`),
    );
  });
});
