/** Hosts with a UDP port of their own, beside hosts that use that of the network. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { Daemon } from '../../bench/daemon.js';
import { failsWith, TestNetwork } from '../lib/network.js';
import { datagramsBothWays, endAccounted, streamBothWays } from '../lib/traffic.js';

let network: TestNetwork;
before(async () => {
  network = await TestNetwork.create(2);
});
afterEach(() => network.stopAll());
after(() => network.close());

function leaseOf(daemon: Daemon): string {
  return readFileSync(join(network.store, 'subnets', daemon.overlaySubnet.replace('/', '-')), 'utf8');
}

async function sockets(daemon: Daemon): Promise<string> {
  return (await daemon.host.exec('ss', '-Hulnp')).stdout;
}

for (const sourcePorts of [1, 4]) {
  test(`traffic between 9001 and the network's port, from ${sourcePorts} ports a queue`, async () => {
    const more = `--dataplane-source-ports=${sourcePorts}`;
    const [a, b] = [network.start(1, '--udp-port=9001', more), network.start(2, more)];
    await Promise.all([a.ready(1), b.ready(1)]);
    assert.equal(leaseOf(a), '{"PublicIP":"192.168.77.1","PublicIPv6":null,"BackendData":{"Port":9001}}');
    assert.equal(leaseOf(b), '{"PublicIP":"192.168.77.2","PublicIPv6":null}');
    assert.match(await sockets(a), /192\.168\.77\.1:9001 /);
    assert.match(await sockets(b), /192\.168\.77\.2:8285 /);
    await streamBothWays(a, b, 16 << 20);
    await datagramsBothWays(a, b, 50);
    await endAccounted(a, b);
  });
}

test('that of the network, given by flag, is announced to nobody', async () => {
  const daemon = network.start(1, '--udp-port=8285');
  await daemon.logged(/flannel is ready/);
  assert.equal(leaseOf(daemon), '{"PublicIP":"192.168.77.1","PublicIPv6":null}');
});

test('two daemons with one public IP have a subnet each, and keep it', async () => {
  const start = (port: number) =>
    Daemon.start(network.host(1), join(network.folder, `port-${port}.env`), [
      `--subnet-dir=${network.store}`,
      `--udp-port=${port}`,
    ]);
  const peer = network.start(2);
  const daemons = new Map([8285, 9001].map((port) => [port, start(port)]));
  try {
    for (const daemon of daemons.values()) await daemon.ready(2);
    assert.notEqual(daemons.get(8285)?.overlaySubnet, daemons.get(9001)?.overlaySubnet);
    await peer.ready(2);
    for (const [port, daemon] of [...daemons]) {
      const subnet = daemon.overlaySubnet;
      await peer.host.exec('ping', '-c', '1', '-W', '2', daemon.overlayAddress);
      await daemon.stop();
      await writeFile(daemon.subnetFile, '');
      const next = start(port);
      daemons.set(port, next);
      await next.logged(/flannel is ready/);
      assert.equal(next.overlaySubnet, subnet);
    }
    for (const daemon of daemons.values()) assert.doesNotMatch(daemon.log, /was taken by|revoked/);
  } finally {
    await Promise.all([...daemons.values()].map((daemon) => daemon.stop()));
  }
});

test("a peer's port that makes no sense is a warning, and the network's is used", async () => {
  const peer = network.start(2);
  await peer.logged(/flannel is ready/);
  const entry = join(network.store, 'subnets', peer.overlaySubnet.replace('/', '-'));
  await peer.stop();
  await writeFile(entry, '{"PublicIP":"192.168.77.2","PublicIPv6":null,"BackendData":{"Port":"9001"}}');
  const daemon = network.start(1);
  await daemon.ready(1);
  await daemon.logged(
    /W\d{4} .*the lease \S+ has no usable port \(Port is "9001", expected .*\); using 8285/,
  );
  assert.equal(daemon.exitCode, null);
});

test('one out of range is an error', async () => {
  await failsWith(
    network.start(1, '--udp-port=65536'),
    1,
    /Invalid udp-port 65536: write a number from 0 to 65535/,
  );
});
