/**
 * `node open-and-close.js CYCLES`: opens, runs and closes dataplanes under traffic from outside, then ends worker
 * threads that own a running one. Prints what was left over, as JSON.
 */
import { readdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { counters, Dataplane, histograms } from '../../src/dataplane.js';
import { Cidr4 } from '../../src/ip.js';
import { Rtnetlink } from '../../src/netlink/rtnetlink.js';
import { liveThreads } from './threads.js';

/** Numbers of things that this process holds. */
export interface Holdings {
  readonly descriptors: number;
  readonly threads: number;
  readonly tunLinks: number;
  readonly overlayRoutes: number;
}

export interface Leftovers {
  readonly before: Holdings;
  readonly afterCycles: Holdings;
  readonly afterTerminate: Holdings;
  /** Packets moved in all cycles together, each direction. */
  readonly moved: readonly [number, number];
}

const LOCAL = 0xc0a84d01; // 192.168.77.1
const TUNNEL = new Cidr4(0x0af42100, 32); // 10.244.33.0
const OVERLAY = new Cidr4(0x0af40000, 16);
const TERMINATED_WORKERS = 20;

function openDataplane(split: boolean): Dataplane {
  const dataplane = new Dataplane({
    tunName: 'flannel%d',
    features: ['batch', 'gso', 'gro', 'tso', 'uso'],
    required: true,
    threads: split ? 'split' : 'single',
    queues: split ? 2 : 1,
    sourcePorts: split ? 4 : 1,
    bindAddress: LOCAL,
    port: 8285,
    receiveBuffer: 0,
    sendBuffer: 0,
    tunnelAddress: TUNNEL.ip,
    tunnelAddress6: null,
    clampMtu: 0,
    probeMtu: false,
    controlSocket: null,
    generation: 0,
    sourceCheck: 'peer',
  });
  const netlink = new Rtnetlink();
  const link = netlink.links().find(({ name }) => name === dataplane.tunName);
  if (link === undefined) throw new Error('the device is not there');
  netlink.addAddress(link.index, TUNNEL);
  netlink.bringUp(link.index, 1472);
  netlink.addRoute(OVERLAY, link.index);
  netlink.close();
  dataplane.setRoutes([{ destination: new Cidr4(0x0af4c800, 24), address: LOCAL, port: 8285 }]);
  dataplane.start();
  return dataplane;
}

function count(dataplane: Dataplane, counter: string): number {
  return dataplane.stats().counters[counters.findIndex(({ name }) => name === counter)] ?? 0;
}

function moved(dataplane: Dataplane): [number, number] {
  return [count(dataplane, 'encap_packets_in'), count(dataplane, 'decap_packets_in')];
}

/** Of a closed dataplane: its only peer and its histograms have to tell of the same packets as its counters. */
function checkBooks(dataplane: Dataplane): void {
  const out = count(dataplane, 'encap_packets_out');
  const received = count(dataplane, 'decap_packets_in');
  const peers = dataplane.peers();
  const [peer] = peers;
  const isPeer = peers.length === 1 && peer?.address === LOCAL && peer.port === 8285;
  if (!isPeer || peer.packetsOut !== out || peer.packetsIn !== received) {
    throw new Error(`${out} packets out and ${received} in, but peers ${JSON.stringify(peers)}`);
  }
  const histogram = histograms.findIndex(({ name }) => name === 'decap_call_packets');
  const sum = dataplane.stats().histograms[histogram]?.at(-1);
  if (sum !== received) throw new Error(`${received} packets in, but ${sum ?? 'none'} in the histogram`);
}

function holdings(): Holdings {
  const netlink = new Rtnetlink();
  const links = netlink.links().filter(({ name }) => name.startsWith('flannel'));
  const routes = netlink.routes().filter(({ destination }) => destination === OVERLAY.ip);
  netlink.close();
  return {
    descriptors: readdirSync('/proc/self/fd').length,
    threads: liveThreads(),
    tunLinks: links.length,
    overlayRoutes: routes.length,
  };
}

async function cycle(split: boolean): Promise<[number, number]> {
  const dataplane = openDataplane(split);
  const deadline = Date.now() + 30_000;
  let counts = moved(dataplane);
  while (Math.min(...counts) === 0 && Date.now() < deadline) {
    await delay(1);
    counts = moved(dataplane);
  }
  dataplane.close();
  checkBooks(dataplane);
  return counts;
}

async function terminateOne(): Promise<void> {
  const worker = new Worker(fileURLToPath(import.meta.url));
  await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  await worker.terminate();
}

if (isMainThread) {
  // Both once beforehand: the runtime keeps some threads and descriptors from the first use on.
  await cycle(true);
  await terminateOne();
  const before = holdings();
  const sums: [number, number] = [0, 0];
  for (let i = 0; i < Number(process.argv[2]); i++) {
    const [encap, decap] = await cycle(i % 2 === 0);
    if (encap === 0 || decap === 0) throw new Error(`no traffic in cycle ${i}`);
    sums[0] += encap;
    sums[1] += decap;
  }
  const afterCycles = holdings();
  for (let i = 0; i < TERMINATED_WORKERS; i++) await terminateOne();
  const report: Leftovers = { before, afterCycles, afterTerminate: holdings(), moved: sums };
  process.stdout.write(JSON.stringify(report));
} else {
  openDataplane(true);
  parentPort?.postMessage('running');
  setInterval(() => undefined, 1000);
}
