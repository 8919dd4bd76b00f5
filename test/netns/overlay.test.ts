/** Packets over the overlay in the default mode, and what stands around them on the host. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Daemon } from '../../bench/daemon.js';
import { noLargeBuffers, TestNetwork, undisturbed } from '../lib/network.js';
import { streamBothWays } from '../lib/traffic.js';

const GIB = 1 << 30;

let network: TestNetwork;
before(async () => {
  network = await TestNetwork.create(2);
});
afterEach(() => network.stopAll());
after(() => network.close());

async function startBoth(...flags: string[]): Promise<[Daemon, Daemon]> {
  const [a, b] = await network.startAll(...flags);
  assert.ok(a && b);
  return [a, b];
}

test('the default mode carries 1 GiB of TCP both ways, hashed', async () => {
  await streamBothWays(...(await startBoth()), GIB);
});

describe('the device', () => {
  test('has the name, MTU, address and route of stock flannel', async () => {
    const [a] = await startBoth();
    const link = await a.host.ip('-d', 'link', 'show', 'flannel0');
    assert.match(link, /<POINTOPOINT,MULTICAST,NOARP,UP,LOWER_UP> mtu 1472/);
    // Stock's goes with its process; this one outlives a kill, for the next flanneld (restart.test.ts).
    assert.match(link, /tun type tun pi off .*persist on/);
    const address = await a.host.ip('-4', '-o', 'address', 'show', 'flannel0');
    assert.match(address, new RegExp(` inet ${a.overlayAddress}/32 scope global `));
    // A route of global scope: ip(8) shows any other.
    assert.equal((await a.host.ip('route', 'show', 'dev', 'flannel0')).trim(), '10.244.0.0/16');
  });
});

test('subnet.env is byte for byte what stock flannel writes', async () => {
  const [a] = await startBoth();
  const [, third] = /^10\.244\.(\d+)\.0$/.exec(a.overlayAddress) ?? [];
  assert.equal(
    readFileSync(a.subnetFile, 'utf8'),
    `FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.${third ?? ''}.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n`,
  );
});

describe('ICMP errors reach the sender', () => {
  async function pingFromA(ttl: number, address: (b: Daemon) => string): Promise<string> {
    const [a, b] = await startBoth();
    const command = `ping -n -c 1 -W 2 -t ${ttl} ${address(b)} || true`;
    return (await a.host.exec('sh', '-c', command)).stdout
      .replaceAll(a.overlayAddress, 'A')
      .replaceAll(b.overlayAddress, 'B');
  }

  test('net unreachable for a subnet without a lease', async () => {
    assert.match(await pingFromA(64, () => '10.244.0.77'), /From A icmp_seq=1 Destination Net Unreachable/);
  });

  test('time exceeded from the near end', async () => {
    assert.match(await pingFromA(1, (b) => b.overlayAddress), /From A icmp_seq=1 Time to live exceeded/);
  });

  test('time exceeded from the far end', async () => {
    assert.match(await pingFromA(2, (b) => b.overlayAddress), /From B icmp_seq=1 Time to live exceeded/);
  });
});

test('peers that are dead do not hold up the living', { skip: noLargeBuffers() }, async () => {
  // No host has these addresses, so datagrams to them wait for an answer to ARP.
  for (const dead of [200, 201]) {
    const entry = join(network.store, 'subnets', `10.244.${dead}.0-24`);
    await writeFile(entry, `{"PublicIP":"192.168.77.${dead}","PublicIPv6":null}`);
  }
  const [a, b] = await startBoth();
  await a.logged(/Subnet added: 10\.244\.201\.0/);
  await undisturbed(a, b, async () => {
    const pings = [200, 201].map((dead) => `timeout 8 ping -q -i 0.005 -s 1400 10.244.${dead}.1`);
    await a.host.exec('sh', '-c', `${pings.join(' & ')} & wait`);
  });
});
