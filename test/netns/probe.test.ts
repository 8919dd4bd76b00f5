/** The probe tells exactly what a path does that is known to lose, double and reorder. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import type { Host } from '../../bench/topology.js';
import { GATEWAY } from '../../bench/topology.js';
import { eventually } from '../lib/eventually.js';
import { TestNetwork } from '../lib/network.js';
import { OneWayProbe, Probe } from '../lib/probe.js';

const PORT = 7011;

describe('the probe', () => {
  let network: TestNetwork;
  let host: Host;

  before(async () => {
    network = await TestNetwork.create(2);
    host = network.host(1);
  });
  after(() => network.close());

  test('counts what a relay drops, doubles and delays', async () => {
    const relay = createSocket('udp4');
    relay.bind(PORT, GATEWAY);
    await once(relay, 'listening');
    let relayed = 0;
    let held: Buffer | null = null;
    const pass = (datagram: Buffer) => {
      relay.send(datagram, PORT, host.address);
    };
    relay.on('message', (datagram) => {
      // Nothing from the 550th on arrives, so that the figures are exact.
      if (relayed === 550) return;
      const number = relayed++ % 100;
      if (number === 10) return;
      if (number === 30) {
        held = datagram;
        return;
      }
      pass(datagram);
      if (number === 20) pass(datagram);
      if (held !== null) pass(held);
      held = null;
    });
    const probe = await OneWayProbe.start(host, { host, address: host.address }, 1000, {
      port: PORT,
      sendTo: GATEWAY,
    });
    try {
      await eventually(async () => (await probe.progress()).received === 544);
      const { sent, refused, received, lost, duplicated, reordered } = await probe.finish();
      assert.deepEqual([received, duplicated, reordered, refused], [544, 6, 6, 0]);
      assert.equal(lost, sent - 544);
      assert.ok(sent >= 550);
    } finally {
      await probe.kill();
      relay.close();
    }
  });

  test('finds the gap, both ways, and sends no faster than it should', async () => {
    const other = network.host(2);
    const started = Date.now();
    const probe = await Probe.start(
      { host, address: host.address },
      { host: other, address: other.address },
      10_000,
    );
    try {
      await eventually(async () => (await probe.progress()).every(({ received }) => received > 5_000));
      await other.ip('link', 'set', 'eth0', 'down');
      const cut = Date.now();
      await eventually(() => Date.now() - cut > 300);
      const healing = Date.now();
      await other.ip('link', 'set', 'eth0', 'up');
      const before = await probe.progress();
      await eventually(async () =>
        (await probe.progress()).every(({ received }, i) => received > (before[i]?.received ?? 0) + 5_000),
      );
      const figures = await probe.finish();
      const seconds = (Date.now() - started) / 1000;
      for (const { sent, lost, duplicated, gapMs, gapAtMs } of figures) {
        // Slower it may be: what a busy machine kept it from sending in time, it leaves out.
        assert.ok(sent < 1.2 * 10_000 * seconds, `${sent} in ${seconds} s`);
        // In whole milliseconds. When it began depends on how soon the link went down.
        assert.ok(gapAtMs >= started && gapAtMs <= cut + 1, `${gapAtMs - cut} ms after the cut`);
        assert.ok(gapAtMs + gapMs >= healing - 1, `${gapMs} ms, ${gapAtMs - cut} ms after the cut`);
        assert.ok(lost > 0 && lost < sent, `${lost} of ${sent}`);
        assert.equal(duplicated, 0);
      }
    } finally {
      await probe.kill();
    }
  });
});
