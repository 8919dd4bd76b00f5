/** What a network with IPv6 promises: both families, errors that reach the sender, peers without it, repairs, hand-over. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Daemon } from '../../bench/daemon.js';
import { eventually } from '../lib/eventually.js';
import { DUAL, DUAL_OVER_IPV6, IPV6_ALONE } from '../lib/ipv6-networks.js';
import { TestNetwork, undisturbed } from '../lib/network.js';
import { statusOf } from '../lib/status-report.js';
import { handOver } from '../lib/succession.js';
import { datagramsBothWays, endAccounted, streamBothWays } from '../lib/traffic.js';

const MIB = 1 << 20;
const OVERLAY6 = 'fd00:10:244::/48';

let network: TestNetwork;
before(async () => {
  network = await TestNetwork.create(2);
});
afterEach(async () => {
  await network.stopAll();
  await network.emptyStore();
});
after(() => network.close());

async function startTwo(config = DUAL): Promise<[Daemon, Daemon]> {
  await network.configure(config);
  const [a, b] = await network.startAll();
  assert.ok(a && b);
  return [a, b];
}

/** What ping(8) says, whether there are answers or not. */
async function ping(from: Daemon, to: string, ...flags: readonly string[]): Promise<string> {
  const command = `ping -n -c 3 -i 0.2 -W 2 ${flags.join(' ')} ${to} 2>&1 || true`;
  return (await from.host.exec('sh', '-c', command)).stdout;
}

for (const [name, config] of Object.entries({ IPv4: DUAL, IPv6: DUAL_OVER_IPV6 })) {
  test(`both families at once over ${name}: streams and datagrams both ways, all accounted for`, async () => {
    const [a, b] = await startTwo(config);
    await Promise.all([streamBothWays(a, b, 16 * MIB, 4), streamBothWays(a, b, 16 * MIB, 6)]);
    for (const family of [4, 6] as const) await datagramsBothWays(a, b, 50, family);
    await endAccounted(a, b);
  });
}

test('the device has one address of each family and their routes, and says nothing of its own', async () => {
  const [a] = await startTwo();
  const address = await a.host.ip('-6', '-o', 'address', 'show', 'flannel0');
  assert.match(address, new RegExp(` inet6 ${a.overlayAddress6}/128 scope global nodad`));
  assert.equal(address.trim().split('\n').length, 1, 'no link-local one');
  assert.match(await a.host.ip('-6', 'route', 'show', 'dev', 'flannel0'), new RegExp(`^${OVERLAY6} `, 'm'));
});

test('subnet.env has the IPv6 lines where stock flannel has them', async () => {
  const [a] = await startTwo();
  assert.match(
    readFileSync(a.subnetFile, 'utf8'),
    /^FLANNEL_NETWORK=10\.244\.0\.0\/16\nFLANNEL_SUBNET=10\.244\.\d+\.1\/24\nFLANNEL_IPV6_NETWORK=fd00:10:244::\/48\nFLANNEL_IPV6_SUBNET=fd00:10:244:[0-9a-f]+::1\/64\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n$/,
  );
});

describe('ICMPv6 errors reach the sender:', () => {
  test('time exceeded, from either end of the tunnel', async () => {
    const [a, b] = await startTwo();
    for (const [hops, sender] of [
      [1, a],
      [2, b],
    ] as const) {
      const output = await ping(a, b.overlayAddress6, `-t ${hops}`);
      assert.match(
        output,
        new RegExp(`From ${sender.overlayAddress6} icmp_seq=1 Time exceeded: Hop limit`),
        output,
      );
    }
  });

  test('no route, for a subnet without a lease', async () => {
    const [a] = await startTwo();
    const output = await ping(a, 'fd00:10:244:ffff::1');
    assert.match(
      output,
      new RegExp(`From ${a.overlayAddress6} icmp_seq=1 Destination unreachable: No route`),
    );
  });
});

describe('a peer whose lease says nothing of IPv6', () => {
  test('gets none, and its IPv4 goes on', async () => {
    await network.configure(DUAL);
    const key = '10.244.200.0-24&fd00:10:244:200::-64';
    const stock = '{"PublicIP":"192.168.77.2","PublicIPv6":"fd77::2","BackendType":"udp"}';
    await writeFile(join(network.store, 'subnets', key), stock);
    const a = network.start(1);
    await a.ready(1);
    await a.logged(/no IPv6 to the host 192\.168\.77\.2/);
    assert.equal((await statusOf(a)).peers[0]?.ipv6, false);
    const output = await ping(a, 'fd00:10:244:200::1');
    assert.match(output, /Destination unreachable: No route/);
    assert.match(await ping(a, '10.244.200.1'), / 0 received/);
    assert.equal(await a.stop(), 0);
    assert.ok((a.counters().get('encap_packets_out') ?? 0) >= 3, 'the IPv4 ones are sent');
  });
});

describe('flanneld status', () => {
  test('names what a host has of both families', async () => {
    const [a, b] = await startTwo();
    const { network: net, lease, peers } = await statusOf(a);
    assert.deepEqual(net, { cidr: '10.244.0.0/16', ipv6Cidr: OVERLAY6, backend: 'udp' });
    assert.equal(lease?.ipv6Subnet, `${a.overlayAddress6}/64`);
    assert.equal(lease.ipv6PublicIp, 'fd77::1');
    assert.equal(peers[0]?.ipv6Subnet, `${b.overlayAddress6}/64`);
    assert.equal(peers[0].ipv6, true);
  });

  test('has those of IPv6 in the places of IPv4 where that is alone', async () => {
    const [a, b] = await startTwo(IPV6_ALONE);
    const { network: net, lease, peers } = await statusOf(a);
    assert.deepEqual(net, { cidr: OVERLAY6, ipv6Cidr: null, backend: 'udp' });
    assert.equal(lease?.subnet, `${a.overlayAddress6}/64`);
    assert.equal(lease.publicIp, 'fd77::1');
    assert.equal(peers[0]?.subnet, `${b.overlayAddress6}/64`);
    assert.equal(peers[0].ipv6, true);
  });

  test('measures round trips to the IPv6 address of a peer that has no other in the overlay', async () => {
    const [a, b] = await startTwo(IPV6_ALONE);
    // The distance of a peer that takes its time is in the next answer.
    await eventually(async () => {
      const { peers, rttUnavailable } = await statusOf(a);
      assert.equal(rttUnavailable, null);
      assert.equal(peers[0]?.answers, true);
      assert.ok((peers[0].rttMs ?? 0) > 0);
    });
    await b.stop('SIGKILL');
    await eventually(async () => {
      const { peers } = await statusOf(a);
      assert.deepEqual([peers[0]?.answers, peers[0]?.rttMs], [false, null]);
    });
  });
});

test('a hand-over, and a start after a kill, keep IPv6', async () => {
  const [a, b] = await startTwo();
  let next: Daemon | undefined;
  await undisturbed(
    b,
    a,
    async () => {
      next = await handOver(a, () => network.start(1));
    },
    6,
  );
  assert.ok(next);
  const address = next.overlayAddress6;
  await next.stop('SIGKILL');
  const last = network.start(1);
  await last.ready(1);
  assert.equal(last.overlayAddress6, address);
  await eventually(async () => {
    assert.match(await ping(b, last.overlayAddress6), / 3 received/);
  });
});

test('what somebody takes away of IPv6 is restored', async () => {
  const [a, b] = await startTwo();
  const changes: [string, RegExp][] = [
    [`route delete ${OVERLAY6} dev flannel0`, /restored route fd00:10:244::\/48/],
    [`address delete ${a.overlayAddress6}/128 dev flannel0`, /restored [^\n]*address fd00:10:244:/],
  ];
  for (const [change, line] of changes) {
    await a.host.ip('-6', ...change.split(' '));
    await a.logged(line);
    await eventually(async () => {
      assert.match(await ping(a, b.overlayAddress6), / 3 received/);
    });
  }
});
