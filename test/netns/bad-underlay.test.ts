/** An underlay that loses, doubles and reorders datagrams: what TCP carries over it arrives whole, in every tier. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { RunningTool } from '../../bench/tools.js';
import type { RelayFigures } from '../lib/bad-relay.js';
import { TestNetwork } from '../lib/network.js';
import { endAccounted, streamBothWays } from '../lib/traffic.js';

const RELAY = fileURLToPath(new URL('../lib/bad-relay.js', import.meta.url));
/** The relay's, by which both hosts are known: as hosts behind one NAT. */
const PUBLIC_IP = '192.168.77.3';
const BYTES = 1 << 20;

let network: TestNetwork;
before(async () => {
  network = await TestNetwork.create(3);
});
afterEach(() => network.stopAll());
after(() => network.close());

for (const [i, tier] of ['basic', 'full'].entries()) {
  test(`${tier}: ${BYTES >> 20} MiB both ways, hashed`, async () => {
    const relay = await RunningTool.start(network.host(3), process.execPath, [RELAY, `${i}`], /^ready$/);
    try {
      const start = (host: number) =>
        network.start(host, `--udp-port=900${host}`, `--public-ip=${PUBLIC_IP}`, `--dataplane-tier=${tier}`);
      const [a, b] = [start(1), start(2)];
      await Promise.all([a.ready(1), b.ready(1)]);
      await streamBothWays(a, b, BYTES);
      const { lost, doubled, delayed } = await relay.finish<RelayFigures>();
      assert.ok(lost > 0 && doubled > 0 && delayed > 0, 'the underlay was a bad one');
      await endAccounted(a, b);
      for (const { log } of [a, b]) assert.doesNotMatch(log, /the kernel refuses/);
    } finally {
      await relay.kill();
    }
  });
}
