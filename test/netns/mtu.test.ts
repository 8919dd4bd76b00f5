/** Underlays of all sizes: what fits passes whole, what does not is known at its source, and streams fit themselves. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Daemon } from '../../bench/daemon.js';
import { CONFIG, TestNetwork } from '../lib/network.js';
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

describe('an MTU in the network config', () => {
  let network: TestNetwork;
  afterEach(async () => {
    await network.stopAll();
    await network.close();
  });
  const startWith = async (mtu: number): Promise<[Daemon, Daemon]> => {
    const config = { ...CONFIG, Backend: { Type: 'udp', MTU: mtu } };
    network = await TestNetwork.create(2, { config });
    const [a, b] = await network.startAll();
    assert.ok(a && b);
    assert.equal(a.subnetEnv('FLANNEL_MTU'), String(mtu));
    assert.match(await a.host.ip('link', 'show', 'flannel0'), new RegExp(` mtu ${mtu} `));
    return [a, b];
  };

  test('holds in place of what the interface leaves', async () => {
    const [a, b] = await startWith(1300);
    assert.match(await pingWithDf(a, b, 1300), / 3 received/);
    assert.match(await pingWithDf(a, b, 1301), /message too long, mtu[=:] ?1300/);
    await streamBothWays(a, b, MIB);
    assert.doesNotMatch(a.log, /is more than/);
  });

  test('that the interface does not carry is warned of, and packets arrive in fragments', async () => {
    const [a, b] = await startWith(3000);
    assert.match(a.log, /The MTU of 3000 in the network config is more than the 1472 that interface/);
    assert.match(await pingWithDf(a, b, 3000), / 3 received/);
    await streamBothWays(a, b, MIB);
  });
});
