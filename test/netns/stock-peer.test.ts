/**
 * A host of stock flannel in a network of both families, which takes every datagram for IPv4: a bare UDP socket behind a
 * lease as stock flannel's udp backend writes it.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Daemon } from '../../bench/daemon.js';
import { RunningTool } from '../../bench/tools.js';
import type { PeerReport, PeerScript } from '../lib/bare-peer.js';
import { DUAL } from '../lib/ipv6-networks.js';
import { TestNetwork, unaccounted } from '../lib/network.js';
import { echo, echo6 } from '../lib/raw-packets.js';

const BARE_PEER = fileURLToPath(new URL('../lib/bare-peer.js', import.meta.url));
const STOCK4 = '10.244.200.5';
const STOCK6 = 'fd00:10:244:200::5';

let network: TestNetwork;
before(async () => {
  network = await TestNetwork.create(2, { config: DUAL });
});
afterEach(() => network.stopAll());
after(() => network.close());

async function startBesideStock(): Promise<Daemon> {
  await writeFile(
    join(network.store, 'subnets', '10.244.200.0-24&fd00:10:244:200::-64'),
    '{"PublicIP":"192.168.77.2","PublicIPv6":"fd77::2"}',
  );
  const daemon = network.start(1);
  await daemon.ready(1);
  return daemon;
}

/** A peer that has sent these packets, and answers echoes from now on. */
async function startStock(...send: readonly Buffer[]): Promise<RunningTool> {
  const script: PeerScript = {
    to: '192.168.77.1',
    send: send.map((bytes) => bytes.toString('hex')),
    expect: 0,
    answers: true,
  };
  const file = join(network.folder, 'script.json');
  await writeFile(file, JSON.stringify(script));
  return RunningTool.start(network.host(2), process.execPath, [BARE_PEER, file], /^ready$/);
}

async function ping({ host }: Daemon, to: string): Promise<string> {
  return (await host.exec('sh', '-c', `ping -n -c 3 -i 0.1 -W 2 ${to} 2>&1 || true`)).stdout;
}

test('IPv4 goes there and back, and no datagram of IPv6 ever reaches it', async () => {
  const daemon = await startBesideStock();
  // IPv6 in its name makes it no more able to read the answers: to an echo, and to a hop limit that ran out.
  const stock = await startStock(
    echo(STOCK4, daemon.overlayAddress),
    echo6(STOCK6, daemon.overlayAddress6),
    echo6(STOCK6, daemon.overlayAddress6, 1),
  );
  try {
    assert.match(await ping(daemon, STOCK4), / 3 received/);
    assert.match(await ping(daemon, STOCK6), /Destination unreachable: No route/);
    const { received } = await stock.finish<PeerReport>();
    assert.deepEqual(
      received.map(({ bytes }) => [bytes.slice(0, 1), bytes.slice(40, 42)]),
      [...[['4', '00']], ...Array<string[]>(3).fill(['4', '08'])],
      'the answer to its echo, and three requests',
    );
  } finally {
    await stock.kill();
  }
  assert.equal(await daemon.stop(), 0);
  const counters = daemon.counters();
  assert.equal(counters.get('encap_packets_out'), 4);
  assert.ok((counters.get('encap_no_route') ?? 0) >= 3, 'pings, and the answer to its echo of IPv6');
  assert.equal(counters.get('decap_ttl_expired'), 1);
  assert.equal(counters.get('decap_icmp_failed'), 1, 'there is no way to tell it');
  assert.equal(unaccounted(counters, 'encap'), 0);
  assert.equal(unaccounted(counters, 'decap'), 0);
});

test('what only looks like IPv6 ends in a counter each, and its IPv4 beside that is served', async () => {
  const daemon = await startBesideStock();
  const good = () => echo(STOCK4, daemon.overlayAddress);
  const good6 = () => echo6(STOCK6, daemon.overlayAddress6);
  const looksLikeIpv6 = Buffer.concat([good(), Buffer.alloc(40)]);
  looksLikeIpv6[0] = 0x65;
  const cases: [Buffer, string][] = [
    [Buffer.alloc(1, 0x60), 'decap_short'],
    [good6().subarray(0, 39), 'decap_short'],
    [good6().subarray(0, 41), 'decap_bad_length'],
    [Buffer.concat([good6(), Buffer.alloc(1)]), 'decap_bad_length'],
    [looksLikeIpv6, 'decap_bad_length'],
    [echo6(STOCK6, daemon.overlayAddress6, 0), 'decap_ttl_zero'],
    [Buffer.alloc(60, 0x70), 'decap_bad_version'],
  ];
  const stock = await startStock(...cases.flatMap(([bytes]) => [bytes, good()]));
  try {
    assert.match(await ping(daemon, STOCK4), / 3 received/);
    const { received } = await stock.finish<PeerReport>();
    assert.equal(received.length, cases.length + 3);
    for (const { bytes } of received) assert.equal(bytes[0], '4');
  } finally {
    await stock.kill();
  }
  assert.equal(await daemon.stop(), 0);
  const counters = daemon.counters();
  for (const counter of new Set(cases.map(([, name]) => name))) {
    const expected = cases.filter(([, name]) => name === counter).length;
    assert.equal(counters.get(counter), expected, counter);
  }
  assert.equal(counters.get('decap_packets_in'), 2 * cases.length + 3);
  assert.equal(unaccounted(counters, 'decap'), 0);
});
