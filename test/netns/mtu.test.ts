/** Underlays of all sizes: what fits passes whole, what does not is known at its source, and streams fit themselves. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Daemon } from '../../bench/daemon.js';
import { TestNetwork } from '../lib/network.js';
import { datagramsBothWays, endAccounted, streamBothWays } from '../lib/traffic.js';

const MIB = 1 << 20;
const BURSTS = 50;
const OUTER_HEADERS = 28; // IPv4 and UDP
const ECHO_HEADERS = 28; // IPv4 and ICMP

/** Three echoes in packets of `size` bytes that must not be fragmented; what ping(8) says about them. */
async function pingWithDf(from: Daemon, to: Daemon, size: number): Promise<string> {
  const command = `ping -n -c 3 -i 0.1 -W 1 -M do -s ${size - ECHO_HEADERS} ${to.overlayAddress} 2>&1 || true`;
  return (await from.host.exec('sh', '-c', command)).stdout;
}

// The least that IPv4 wants everyone to take, Ethernet, jumbo frames, and the most that still carries UDP datagrams
// of nearly 64 KB.
for (const underlay of [576, 1500, 9000, 65520]) {
  describe(`an underlay with an MTU of ${underlay}`, () => {
    const mtu = underlay - OUTER_HEADERS;
    let network: TestNetwork;
    before(async () => {
      network = await TestNetwork.create(2, { mtu: underlay });
    });
    afterEach(() => network.stopAll());
    after(() => network.close());

    for (const tier of ['basic', 'full']) {
      test(`${tier}: an overlay of ${mtu}, filled to the last byte`, async () => {
        const [a, b] = await network.startAll(`--dataplane-tier=${tier}`);
        assert.ok(a && b);
        assert.equal(a.subnetEnv('FLANNEL_MTU'), String(mtu));
        assert.match(await a.host.ip('link', 'show', 'flannel0'), new RegExp(` mtu ${mtu} `));
        assert.match(await pingWithDf(a, b, mtu), / 3 received/);
        const refused = await pingWithDf(a, b, mtu + 1);
        assert.match(refused, new RegExp(`message too long, mtu[=:] ?${mtu}`));
        assert.match(refused, / 0 received/);
        await streamBothWays(a, b, 16 * MIB);
        await datagramsBothWays(a, b, BURSTS);
        await endAccounted(a, b);
      });
    }
  });
}
