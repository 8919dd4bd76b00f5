/** What happens in the middle of traffic when one flanneld follows another: nothing, whatever families there are. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import type { Family } from '../../bench/daemon.js';
import { tcpStream } from '../../bench/probes.js';
import { FAMILIES } from '../lib/ipv6-networks.js';
import { TestNetwork } from '../lib/network.js';
import { Probe } from '../lib/probe.js';
import { handOver } from '../lib/succession.js';

const SECONDS = 4;
/** Numbered datagrams a second, each way: so few that the queues hold what comes while somebody gets no processor. */
const RATE = 200;

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
  test(`IPv${inner} over IPv${outer}: streams stay whole and no datagram is lost, doubled or overtaken`, async () => {
    await network.configure(FAMILIES[`${inner}/${outer}`]);
    const [a, b] = await network.startAll();
    assert.ok(a && b);
    const [addressA, addressB] = [a.addressOf(inner), b.addressOf(inner)];
    const probe = await Probe.start(
      { host: a.host, address: addressA },
      { host: b.host, address: addressB },
      RATE,
    );
    try {
      const length = { seconds: SECONDS };
      const [forth, back, next] = await Promise.all([
        tcpStream(a.host, b.host, addressB, length),
        tcpStream(b.host, a.host, addressA, length),
        handOver(a, () => network.start(1)),
      ]);
      for (const { received } of [forth, back]) assert.ok(received.bytes > 0);
      for (const figures of await probe.finish()) {
        assert.ok(figures.received > 0);
        const { lost, duplicated, reordered } = figures;
        assert.deepEqual({ lost, duplicated, reordered }, { lost: 0, duplicated: 0, reordered: 0 });
      }
      assert.equal(next.addressOf(inner), addressA);
      assert.equal(await next.stop(), 0);
      assert.ok((next.counters().get('encap_packets_out') ?? 0) > 0, 'the next one has carried some');
    } finally {
      await probe.kill();
    }
  });
}
