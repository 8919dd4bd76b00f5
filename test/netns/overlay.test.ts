/** Packets over the overlay, in every tier and thread mode. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Daemon } from '../../bench/daemon.js';
import { ping, tcpStream } from '../../bench/probes.js';
import { leftovers, TestNetwork, unaccounted, undisturbed } from '../lib/network.js';

const MIB = 1 << 20;
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

/** Both ways at once; throws where the payload's hashes differ. */
async function streamBothWays(a: Daemon, b: Daemon, bytes: number): Promise<void> {
  await Promise.all([
    tcpStream(a.host, b.host, b.overlayAddress, { bytes }),
    tcpStream(b.host, a.host, a.overlayAddress, { bytes }),
  ]);
}

for (const tier of ['basic', 'batch', 'udp-offload', 'full']) {
  for (const threads of ['single', 'split']) {
    test(`${tier}, ${threads}: TCP both ways, hashed, and every packet accounted for`, async () => {
      const [a, b] = await startBoth(`--dataplane-tier=${tier}`, `--dataplane-threads=${threads}`);
      await streamBothWays(a, b, 64 * MIB);
      for (const daemon of [a, b]) {
        assert.equal(await daemon.stop(), 0);
        const counters = daemon.counters();
        assert.equal(unaccounted(counters, 'encap'), 0);
        assert.equal(unaccounted(counters, 'decap'), 0);
        assert.ok((counters.get('decap_bytes') ?? 0) > 64 * MIB);
        assert.equal(await leftovers(daemon.host), '');
      }
    });
  }
}

for (const disabled of ['batch', 'gso', 'gro', 'tso', 'uso', 'gso,gro', 'tso,uso']) {
  test(`without ${disabled}: TCP both ways, hashed`, async () => {
    const [a, b] = await startBoth(`--dataplane-disable=${disabled}`);
    const features = ['batch', 'gso', 'gro', 'tso', 'uso'].filter(
      (name) => !disabled.split(',').includes(name),
    );
    assert.match(a.log, new RegExp(`Dataplane features: ${features.join(', ')}\n`));
    await streamBothWays(a, b, 16 * MIB);
  });
}

test('the default mode carries 1 GiB of TCP both ways, hashed', async () => {
  await streamBothWays(...(await startBoth()), GIB);
});

describe('a packet of the size', () => {
  async function pingWithDf(size: number): Promise<string> {
    const [a, b] = await startBoth();
    const command = `ping -c 3 -i 0.1 -W 1 -M do -s ${size - 28} ${b.overlayAddress} 2>&1 || true`;
    return (await a.host.exec('sh', '-c', command)).stdout;
  }

  test('MTU passes', async () => {
    assert.match(await pingWithDf(1472), /3 received/);
  });

  test('MTU + 1 with DF is answered by the host', async () => {
    const output = await pingWithDf(1473);
    assert.match(output, /message too long, mtu=1472/);
    assert.match(output, / 0 received/);
  });
});

describe('the device', () => {
  test('has the name, MTU, address and route of stock flannel', async () => {
    const [a] = await startBoth();
    const link = await a.host.ip('-d', 'link', 'show', 'flannel0');
    assert.match(link, /<POINTOPOINT,MULTICAST,NOARP,UP,LOWER_UP> mtu 1472/);
    assert.match(link, /tun type tun pi off .*persist off/);
    const address = await a.host.ip('-4', '-o', 'address', 'show', 'flannel0');
    assert.match(address, new RegExp(` inet ${a.overlayAddress}/32 scope global `));
    // A route of global scope: ip(8) shows any other.
    assert.equal((await a.host.ip('route', 'show', 'dev', 'flannel0')).trim(), '10.244.0.0/16');
  });

  test('deleted by somebody else ends the daemon with the reason', async () => {
    const [a] = await startBoth();
    await a.host.ip('link', 'delete', 'flannel0');
    await a.logged(/the dataplane stopped \(.*\); was the TUN device flannel0 deleted\?/);
    await a.stop();
    assert.equal(a.exitCode, 1);
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

/** Why the socket's buffers cannot go beyond the system's limits here, or false where they can. */
function noLargeBuffers(): string | false {
  const initial = /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'));
  return initial ? false : 'large socket buffers need CAP_NET_ADMIN in the initial user namespace';
}

test('other MTUs of the underlay carry over', async () => {
  await network.close();
  network = await TestNetwork.create(2, { mtu: 9000 });
  const [a, b] = await startBoth();
  assert.equal(a.subnetEnv('FLANNEL_MTU'), '8972');
  await streamBothWays(a, b, 16 * MIB);
  assert.ok((await ping(a.host, b.overlayAddress, 3)).every((time) => time !== null));
});
