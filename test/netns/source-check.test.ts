/** Who may send into the overlay: a stranger's packets are refused, counted and named. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { FLANNELD } from '../../bench/daemon.js';
import type { Daemon } from '../../bench/daemon.js';
import { readStatus } from '../../src/status/client.js';
import type { PeerReport, PeerScript } from '../lib/bare-peer.js';
import { eventually } from '../lib/eventually.js';
import { CONFIG, TestNetwork, unaccounted } from '../lib/network.js';
import { echo } from '../lib/raw-packets.js';

const BARE_PEER = fileURLToPath(new URL('../lib/bare-peer.js', import.meta.url));
const PEER_SUBNET = '10.244.200';

let network: TestNetwork | undefined;
afterEach(async () => {
  await network?.stopAll();
  await network?.close();
  network = undefined;
});

/** A daemon on host 1, which knows host 2, that has no daemon, and nothing of host 3. */
async function start(sourceCheck: string | null): Promise<Daemon> {
  const backend = sourceCheck === null ? {} : { SourceCheck: sourceCheck };
  network = await TestNetwork.create(3, { config: { ...CONFIG, Backend: { Type: 'udp', ...backend } } });
  await writeFile(
    join(network.store, 'subnets', `${PEER_SUBNET}.0-24`),
    '{"PublicIP":"192.168.77.2","PublicIPv6":null}',
  );
  const daemon = network.start(1);
  await daemon.ready(1);
  return daemon;
}

/** Sends from a host to the daemon; how many answers came back there. */
async function send(from: number, packets: readonly Buffer[], expect: number): Promise<number> {
  assert.ok(network);
  const script: PeerScript = {
    to: '192.168.77.1',
    send: packets.map((packet) => packet.toString('hex')),
    expect,
  };
  const file = join(network.folder, 'script.json');
  await writeFile(file, JSON.stringify(script));
  const { stdout } = await network.host(from).exec(process.execPath, BARE_PEER, file);
  return (JSON.parse(stdout) as PeerReport).received.length;
}

async function counted(daemon: Daemon): Promise<Map<string, number>> {
  assert.equal(await daemon.stop(), 0);
  assert.equal(unaccounted(daemon.counters(), 'decap'), 0);
  return daemon.counters();
}

test('a host without a lease is refused by default, counted, and named once', async () => {
  const daemon = await start(null);
  const request = echo(`${PEER_SUBNET}.5`, daemon.overlayAddress);
  await send(3, [request, request, Buffer.alloc(3)], 0);
  await daemon.logged(/Refused packets from 192\.168\.77\.3 \(inner source 10\.244\.200\.5\)/);
  const { stdout } = await daemon.host.exec(
    ...[process.execPath, FLANNELD, 'status', `--subnet-file=${daemon.subnetFile}`],
  );
  assert.match(stdout, /^dropped [^]*\bdecap_unknown_peer 3\b[^]*^1 peer/m);
  assert.equal(await send(2, [request], 1), 1);
  const counters = await counted(daemon);
  assert.equal(counters.get('decap_unknown_peer'), 3);
  assert.equal(counters.get('decap_packets_out'), 1);
  assert.equal(daemon.log.match(/Refused packets/g)?.length, 1);
});

test('"subnet" holds a peer to its own subnet', async () => {
  const daemon = await start('subnet');
  const own = echo(`${PEER_SUBNET}.5`, daemon.overlayAddress);
  const foreign = echo('10.244.201.5', daemon.overlayAddress);
  assert.equal(await send(2, [foreign, own], 1), 1);
  await daemon.logged(/Refused packets from the peer 192\.168\.77\.2: .*10\.244\.201\.5/);
  const counters = await counted(daemon);
  assert.equal(counters.get('decap_wrong_subnet'), 1);
  assert.equal(counters.get('decap_packets_out'), 1);
});

test('"none" takes packets from everybody, as stock flannel does', async () => {
  const daemon = await start('none');
  await send(3, [echo(`${PEER_SUBNET}.5`, daemon.overlayAddress)], 0);
  // Nobody answers, so only the daemon can tell that it has come.
  const socket = daemon.subnetFile.replace(/\.env$/, '.status.sock');
  await eventually(async () => (await readStatus(socket)).dataplane?.decap.packetsOut === 1);
  const counters = await counted(daemon);
  assert.equal(counters.get('decap_packets_out'), 1);
  assert.doesNotMatch(daemon.log, /Refused/);
});
