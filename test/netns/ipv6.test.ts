/** IPv6 inside the tunnel and around it, beside IPv4 and alone. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Daemon } from '../../bench/daemon.js';
import { TestNetwork } from '../lib/network.js';
import { NETWORKS } from '../lib/ipv6-networks.js';
import { datagramsBothWays, endAccounted, streamBothWays } from '../lib/traffic.js';

const MIB = 1 << 20;

let network: TestNetwork;

async function startTwo(...flags: readonly string[]): Promise<[Daemon, Daemon]> {
  const [a, b] = await network.startAll(...flags);
  assert.ok(a && b);
  return [a, b];
}

/** What ping(8) says, whether there are answers or not. */
async function ping(from: Daemon, to: string, ...flags: readonly string[]): Promise<string> {
  const command = `ping -n -i 0.2 -W 2 ${flags.join(' ')} ${to} 2>&1 || true`;
  return (await from.host.exec('sh', '-c', command)).stdout;
}

for (const [name, { config, inner, outer }] of Object.entries(NETWORKS)) {
  describe(`a network of ${name}`, () => {
    before(async () => {
      network = await TestNetwork.create(2, { config });
    });
    afterEach(() => network.stopAll());
    after(() => network.close());

    const mtu = 1500 - (outer === 4 ? 28 : 48);

    test('fills packets to the last byte, and carries streams and datagrams both ways', async () => {
      const [a, b] = await startTwo();
      assert.equal(a.subnetEnv('FLANNEL_MTU'), String(mtu));
      for (const family of inner) {
        const size = mtu - (family === 4 ? 28 : 48);
        const whole = await ping(a, b.addressOf(family), '-c 3', '-M do', `-s ${size}`);
        assert.match(whole, / 3 received/);
        await streamBothWays(a, b, 8 * MIB, family);
        await datagramsBothWays(a, b, 50, family);
      }
      await endAccounted(a, b);
    });
  });
}
