/** The bytes between hosts, seen by a peer that is no flanneld of ours: a bare UDP socket, as stock flannel's is. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Daemon } from '../../bench/daemon.js';
import { TestNetwork, unaccounted } from '../lib/network.js';
import type { PeerScript, PeerReport } from '../lib/bare-peer.js';
import { checksum, echo } from '../lib/raw-packets.js';

const BARE_PEER = fileURLToPath(new URL('../lib/bare-peer.js', import.meta.url));
const PEER_SUBNET = '10.244.200';

let network: TestNetwork;
before(async () => {
  network = await TestNetwork.create(2);
});
afterEach(() => network.stopAll());
after(() => network.close());

/** A daemon on host 1, and host 2 known to it by the lease that a stock flanneld would have written. */
async function startBesideBarePeer(...flags: readonly string[]): Promise<Daemon> {
  await writeFile(
    join(network.store, 'subnets', `${PEER_SUBNET}.0-24`),
    '{"PublicIP":"192.168.77.2","PublicIPv6":null}',
  );
  const daemon = network.start(1, ...flags);
  await daemon.ready(1);
  return daemon;
}

async function playPeer(script: PeerScript): Promise<PeerReport> {
  const file = join(network.folder, 'script.json');
  await writeFile(file, JSON.stringify(script));
  const { stdout } = await network.host(2).exec(process.execPath, BARE_PEER, file);
  return JSON.parse(stdout) as PeerReport;
}

test('a datagram is the bare inner packet, from the port of the network', async () => {
  const daemon = await startBesideBarePeer();
  const request = echo(`${PEER_SUBNET}.5`, daemon.overlayAddress);
  const { received } = await playPeer({ to: '192.168.77.1', send: [request.toString('hex')], expect: 1 });
  assert.equal(received.length, 1);
  const [reply] = received;
  assert.ok(reply);
  assert.equal(reply.from, '192.168.77.1:8285');
  const bytes = Buffer.from(reply.bytes, 'hex');
  assert.equal(bytes.length, request.length);
  assert.equal(bytes.readUInt16BE(2), bytes.length, 'the total length is that of the datagram');
  assert.equal(bytes[8], 63, 'the host sends with TTL 64, the tunnel takes one');
  assert.equal(checksum(bytes.subarray(0, 20)), 0);
  assert.deepEqual([...bytes.subarray(12, 16)], daemon.overlayAddress.split('.').map(Number));
  assert.equal(bytes[20], 0, 'an echo reply');
  assert.equal(bytes.subarray(24).toString('hex'), request.subarray(24).toString('hex'));
});

test('with several source ports, flows are spread over them and each keeps its own', async () => {
  const daemon = await startBesideBarePeer('--dataplane-source-ports=4');
  const hosts = Array.from({ length: 40 }, (_, i) => `${PEER_SUBNET}.${i + 1}`);
  const requests = [...hosts, ...hosts].map((host) => echo(host, daemon.overlayAddress).toString('hex'));
  const { received } = await playPeer({ to: '192.168.77.1', send: requests, expect: requests.length });
  assert.equal(received.length, requests.length);
  const portOf = new Map<string, string>();
  for (const { from, bytes } of received) {
    const [address, port = ''] = from.split(':');
    const inner = bytes.slice(32, 40); // whom the reply is for
    assert.equal(address, '192.168.77.1');
    assert.equal(port, portOf.get(inner) ?? port, `${inner} has two source ports`);
    portOf.set(inner, port);
  }
  assert.equal(portOf.size, hosts.length);
  const ports = new Set(portOf.values());
  assert.ok(ports.size > 1 && ports.size <= 4 && !ports.has('8285'), [...ports].join(' '));
});

test('malformed datagrams end in a counter each, and good ones beside them are served', async () => {
  const daemon = await startBesideBarePeer();
  const good = () => echo(`${PEER_SUBNET}.5`, daemon.overlayAddress);
  const changed = (at: number, value: number) => {
    const bytes = good();
    bytes[at] = value;
    return bytes;
  };
  const cases: [Buffer, string][] = [
    [Buffer.alloc(0), 'decap_short'],
    [Buffer.alloc(19, 0x45), 'decap_short'],
    [changed(0, 0x65), 'decap_bad_version'],
    [changed(0, 0x15), 'decap_bad_version'],
    [changed(0, 0x41), 'decap_bad_ihl'],
    [changed(0, 0x4f), 'decap_bad_ihl'],
    [changed(3, 10), 'decap_bad_length'],
    [changed(2, 0xff), 'decap_bad_length'],
    [changed(8, 0), 'decap_ttl_zero'],
    [echo(`${PEER_SUBNET}.5`, daemon.overlayAddress, 1), 'decap_ttl_expired'],
    [Buffer.alloc(65507, 0xff), 'decap_bad_version'],
  ];
  const send = cases.flatMap(([bytes]) => [bytes.toString('hex'), good().toString('hex')]);
  // The reply to each good one, and the time-exceeded about the one whose TTL ran out.
  const { received } = await playPeer({ to: '192.168.77.1', send, expect: cases.length + 1 });
  assert.equal(received.length, cases.length + 1);
  assert.equal(await daemon.stop(), 0);
  const counters = daemon.counters();
  const expected = new Map<string, number>();
  for (const [, counter] of cases) expected.set(counter, (expected.get(counter) ?? 0) + 1);
  for (const [counter, count] of expected) assert.equal(counters.get(counter), count, counter);
  assert.equal(counters.get('decap_packets_in'), send.length);
  assert.equal(counters.get('decap_packets_out'), cases.length);
  assert.equal(unaccounted(counters, 'decap'), 0);
});
