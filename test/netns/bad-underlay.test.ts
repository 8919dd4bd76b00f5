/** An underlay that loses, doubles and reorders datagrams: what TCP carries over it arrives whole, and nothing is uncounted. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Daemon, Family } from '../../bench/daemon.js';
import { RunningTool } from '../../bench/tools.js';
import type { RelayFigures } from '../lib/bad-relay.js';
import { FAMILIES } from '../lib/ipv6-networks.js';
import { TestNetwork } from '../lib/network.js';
import { Probe } from '../lib/probe.js';
import { endAccounted, streamBothWays } from '../lib/traffic.js';

const RELAY = fileURLToPath(new URL('../lib/bad-relay.js', import.meta.url));
const BYTES = 1 << 20;
/** Datagrams a second: so few that a queue on the way holds what comes while somebody waits for a processor. */
const RATE = 500;
const PROBE_MS = 2000;

interface Case {
  readonly tier: 'basic' | 'full';
  readonly inner: Family;
  readonly outer: Family;
}

let network: TestNetwork;
before(async () => {
  network = await TestNetwork.create(3);
});
afterEach(async () => {
  await network.stopAll();
  await network.emptyStore();
});
after(() => network.close());

/** Two hosts that are known by the relay's addresses, as hosts behind one NAT. */
async function startBehindRelay({ tier, inner, outer }: Case): Promise<[Daemon, Daemon]> {
  await network.configure(FAMILIES[`${inner}/${outer}`]);
  const relay = network.host(3);
  const known = [`--public-ip=${relay.address}`, `--public-ipv6=${relay.address6}`];
  const start = (host: number) =>
    network.start(host, `--udp-port=900${host}`, ...known, `--dataplane-tier=${tier}`);
  const [a, b] = [start(1), start(2)];
  await Promise.all([a.ready(1), b.ready(1)]);
  return [a, b];
}

/** Runs `use` on both sides of a bad underlay; what that did. */
async function overBadUnderlay(
  each: Case,
  use: (a: Daemon, b: Daemon) => Promise<void>,
): Promise<{ a: Daemon; b: Daemon; relayed: RelayFigures }> {
  const words = [RELAY, `${each.tier} ${each.inner}/${each.outer}`, String(each.outer)];
  const relay = await RunningTool.start(network.host(3), process.execPath, words, /^ready$/);
  try {
    const [a, b] = await startBehindRelay(each);
    await use(a, b);
    const relayed = await relay.finish<RelayFigures>();
    assert.ok(relayed.lost > 0 && relayed.doubled > 0 && relayed.delayed > 0, 'the underlay was a bad one');
    return { a, b, relayed };
  } finally {
    await relay.kill();
  }
}

for (const each of [
  { tier: 'basic', inner: 4, outer: 4 },
  { tier: 'full', inner: 4, outer: 4 },
  { tier: 'full', inner: 6, outer: 4 },
  { tier: 'full', inner: 4, outer: 6 },
  { tier: 'basic', inner: 6, outer: 6 },
  { tier: 'full', inner: 6, outer: 6 },
] satisfies Case[]) {
  const { tier, inner, outer } = each;
  test(`${tier}, IPv${inner} over IPv${outer}: ${BYTES >> 20} MiB both ways, hashed`, async () => {
    const { a, b } = await overBadUnderlay(each, (from, to) => streamBothWays(from, to, BYTES, inner));
    await endAccounted(a, b);
    for (const { log } of [a, b]) assert.doesNotMatch(log, /the kernel refuses/);
  });
}

for (const each of [
  { tier: 'full', inner: 4, outer: 4 },
  { tier: 'full', inner: 6, outer: 4 },
  { tier: 'full', inner: 4, outer: 6 },
  { tier: 'full', inner: 6, outer: 6 },
] satisfies Case[]) {
  const { inner, outer } = each;
  test(`IPv${inner} over IPv${outer}: of datagrams, exactly what the underlay loses and doubles is lost and doubled`, async () => {
    const total = { sent: 0, received: 0, lost: 0, duplicated: 0 };
    const { a, b, relayed } = await overBadUnderlay(each, async (from, to) => {
      const end = (daemon: Daemon) => ({ host: daemon.host, address: daemon.addressOf(inner) });
      const probe = await Probe.start(end(from), end(to), RATE);
      try {
        await delay(PROBE_MS);
        for (const figures of await probe.finish()) {
          assert.equal(figures.refused, 0);
          for (const key of ['sent', 'received', 'lost', 'duplicated'] as const) total[key] += figures[key];
        }
      } finally {
        await probe.kill();
      }
    });
    assert.equal(total.lost, relayed.lost);
    assert.equal(total.duplicated, relayed.doubled);
    await endAccounted(a, b);
    const sum = (name: string) =>
      [a, b].reduce((count, daemon) => count + (daemon.counters().get(name) ?? 0), 0);
    assert.equal(sum('encap_packets_out'), total.sent);
    assert.equal(sum('decap_packets_in'), relayed.passed);
    assert.equal(sum('decap_packets_out'), total.received + total.duplicated);
  });
}
