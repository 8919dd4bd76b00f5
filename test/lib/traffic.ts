/** Payloads over the overlay, compared at both ends; and what has to hold once the daemons have carried them. */
import assert from 'node:assert/strict';
import type { Daemon, Family } from '../../bench/daemon.js';
import { tcpStream } from '../../bench/probes.js';
import { compileProgram, RunningTool } from '../../bench/tools.js';
import { leftovers, unaccounted } from './network.js';

const PORT = '7000';

/** TCP both ways at once. @throws Error where the payload's hashes differ. */
export async function streamBothWays(a: Daemon, b: Daemon, bytes: number, family: Family = 4): Promise<void> {
  await Promise.all([
    tcpStream(a.host, b.host, b.addressOf(family), { bytes }),
    tcpStream(b.host, a.host, a.addressOf(family), { bytes }),
  ]);
}

/** UDP both ways at once: bursts of datagrams.c. @throws Error where one is lost or not what was sent. */
export async function datagramsBothWays(
  a: Daemon,
  b: Daemon,
  bursts: number,
  family: Family = 4,
): Promise<void> {
  await Promise.all([sendDatagrams(a, b, bursts, family), sendDatagrams(b, a, bursts, family)]);
}

interface DatagramFigures {
  readonly datagrams: number;
  readonly bytes: number;
  /** Of the hashes of all datagrams. */
  readonly sum: string;
}

async function sendDatagrams(from: Daemon, to: Daemon, bursts: number, family: Family): Promise<void> {
  const address = to.addressOf(family);
  const program = await compileProgram('test/lib/datagrams.c');
  const receiver = await RunningTool.start(to.host, program, ['receive', address, PORT], /^ready$/);
  try {
    const { stdout } = await from.host.exec(program, 'send', address, PORT, String(bursts));
    const sent = JSON.parse(stdout) as DatagramFigures;
    assert.ok(sent.datagrams > bursts);
    assert.deepEqual(await receiver.finish<DatagramFigures>(), sent);
  } finally {
    await receiver.kill();
  }
}

/** Ends the daemons: each must have accounted for every packet and leave nothing behind. */
export async function endAccounted(...daemons: readonly Daemon[]): Promise<void> {
  for (const daemon of daemons) {
    assert.equal(await daemon.stop(), 0);
    const counters = daemon.counters();
    assert.ok((counters.get('encap_packets_out') ?? 0) > 0);
    assert.equal(unaccounted(counters, 'encap'), 0);
    assert.equal(unaccounted(counters, 'decap'), 0);
    assert.equal(await leftovers(daemon.host), '');
  }
}
