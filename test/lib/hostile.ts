/**
 * A flood of malformed packets (hostile.c) against a daemon, from a host that is no member and from the daemon's own
 * host, with good traffic beside it: what came of all of them.
 */
import assert from 'node:assert/strict';
import type { Daemon } from '../../bench/daemon.js';
import { compileProgram } from '../../bench/tools.js';
import type { Host } from '../../bench/topology.js';
import { CONFIG, unaccounted } from './network.js';
import { Probe } from './probe.js';
import type { ProbeFigures } from './probe.js';

/** As hostile.c tells it. */
export interface HostileFigures {
  readonly sent: number;
  /** Which the sender's own kernel did not take: too long for the device, for instance. */
  readonly refused: number;
  readonly kinds: Readonly<Record<string, number>>;
}

export interface Flood {
  /** Packets from outside, and a second of them. */
  readonly packets: number;
  readonly rate: number;
  /** Any number; the packets depend on nothing else. */
  readonly seed: number;
}

export interface FloodFigures {
  readonly outside: HostileFigures;
  readonly inside: HostileFigures;
  /** From the neighbour to the target, and back. */
  readonly good: readonly [ProbeFigures, ProbeFigures];
  /** Datagrams, or rows of them, that the target's socket had no room for. */
  readonly overflowed: number;
  /** The same for the packets into its device. */
  readonly deviceOverflowed: number;
}

const PORT = 8285;
const GOOD_RATE = 1000;
/** Of the packets from outside, this part goes into the device as well. */
const INSIDE_PART = 0.2;

/** A row of datagrams that UDP_GRO has joined is dropped as one (UDP_GRO_CNT_MAX, net/ipv4/udp_offload.c). */
const MOST_IN_ROW = 64;

/** Floods `target`, which `neighbour` talks to, from `attacker`. */
export async function flood(
  attacker: Host,
  target: Daemon,
  neighbour: Daemon,
  { packets, rate, seed }: Flood,
): Promise<FloodFigures> {
  const program = await compileProgram('test/lib/hostile.c');
  const ends = [neighbour, target].map(({ host, overlayAddress }) => ({ host, address: overlayAddress }));
  const [from, to] = ends;
  assert(from && to);
  const run = async (host: Host, ...args: readonly (string | number)[]): Promise<HostileFigures> => {
    const { stdout } = await host.exec(program, ...args.map(String));
    return JSON.parse(stdout) as HostileFigures;
  };
  await widenFragmentCache(target.host);
  const before = [await overflows(target), await deviceOverflows(target)] as const;
  const probe = await Probe.start(from, to, GOOD_RATE);
  try {
    const [outside, inside] = await Promise.all([
      run(attacker, 'udp', target.host.address, PORT, from.address, to.address, seed, packets, rate),
      run(
        target.host,
        ...['device', 'flannel0', '-', to.address, from.address],
        ...[seed, Math.ceil(packets * INSIDE_PART), rate * INSIDE_PART],
      ),
    ]);
    return {
      outside,
      inside,
      good: await probe.finish(),
      overflowed: (await overflows(target)) - before[0],
      deviceOverflowed: (await deviceOverflows(target)) - before[1],
    };
  } finally {
    await probe.kill();
  }
}

/**
 * Inner fragments that never become whole fill the host's cache, which those of long datagrams on the underlay need, too:
 * the kernel would lose some of these before anybody could count them.
 */
async function widenFragmentCache(host: Host): Promise<void> {
  const settings = ['echo 500000000 >ipfrag_high_thresh', 'echo 1 >ipfrag_time'];
  await host.exec('sh', '-c', ['cd /proc/sys/net/ipv4', ...settings].join(' && '));
}

/** The last column of proc(5)'s net/udp, over all sockets of the port. */
async function overflows({ host }: Daemon): Promise<number> {
  const { stdout } = await host.exec('cat', '/proc/net/udp');
  const port = PORT.toString(16).toUpperCase().padStart(4, '0');
  const rows = stdout.split('\n').filter((row) => row.trim().split(/\s+/)[1]?.endsWith(`:${port}`));
  return rows.reduce((sum, row) => sum + Number(row.trim().split(/\s+/).at(-1)), 0);
}

async function deviceOverflows({ host }: Daemon): Promise<number> {
  const [link] = JSON.parse(await host.ip('-j', '-s', 'link', 'show', 'flannel0')) as {
    readonly stats64: { readonly tx: { readonly dropped: number } };
  }[];
  return link?.stats64.tx.dropped ?? 0;
}

/** Whoever sends is heard: the flood comes from no member, and what is looked at is the rest of the way. */
export const OPEN_TO_ALL = { ...CONFIG, Backend: { Type: 'udp', SourceCheck: 'none' } };

/** Every drop that malformed packets can be counted as; the flood has all of them in it but encap_short. */
const FAULTS = ['bad_version', 'bad_ihl', 'bad_length', 'ttl_zero', 'ttl_expired'];
const FROM_DEVICE = [...FAULTS.map((fault) => `encap_${fault}`), 'encap_no_route'];
const FROM_ANYBODY = ['decap_short', ...FAULTS.map((fault) => `decap_${fault}`)];
/** Of what comes to a daemon that takes packets from members alone, nothing else is asked. */
const FROM_MEMBERS = ['decap_unknown_peer'];

/**
 * Ends both daemons. @throws AssertionError unless they end well, every packet is accounted for, and no good one was
 * lost beyond what the kernel's own queues had no room for.
 * @param open whether the target is open to all
 */
export async function endUnharmed(
  target: Daemon,
  neighbour: Daemon,
  figures: FloodFigures,
  { open }: { readonly open: boolean },
): Promise<void> {
  const { outside, good, overflowed, deviceOverflowed } = figures;
  assert.equal(await neighbour.stop(), 0);
  assert.equal(await target.stop(), 0);
  const [there, here] = [neighbour.counters(), target.counters()];
  for (const counters of [there, here]) {
    assert.equal(unaccounted(counters, 'encap'), 0);
    assert.equal(unaccounted(counters, 'decap'), 0);
  }
  for (const name of [...FROM_DEVICE, ...(open ? FROM_ANYBODY : FROM_MEMBERS)]) {
    assert.ok((here.get(name) ?? 0) > 0, `${name} was not hit`);
  }
  // What reached the socket: the flood, what the neighbour forwarded, and its answers.
  const sent = outside.sent + (there.get('encap_packets_out') ?? 0) + (there.get('decap_icmp_sent') ?? 0);
  const received = here.get('decap_packets_in') ?? 0;
  assert.ok(
    received <= sent - overflowed && received >= sent - overflowed * MOST_IN_ROW,
    'received = sent - overflowed',
  );
  const [forth, back] = good;
  assert.ok(forth.sent > 0 && back.sent > 0);
  assert.ok(
    forth.lost <= overflowed * MOST_IN_ROW,
    `${forth.lost} lost of ${forth.sent}, ${overflowed} had no room`,
  );
  assert.ok(
    back.lost <= deviceOverflowed,
    `${back.lost} lost of ${back.sent}, ${deviceOverflowed} had no room`,
  );
  assert.equal(forth.duplicated + back.duplicated, 0);
  for (const { log } of [target, neighbour]) assert.doesNotMatch(log, /the kernel refuses/);
}
