import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ratesBetween } from '../../src/status/rates.js';
import { ONE_LOOK, renderStatus } from '../../src/status/render.js';
import type { StatusReport } from '../../src/status/report.js';
import { coloured, fit, sparkline, wrap } from '../../src/status/table.js';
import { formatDuration, formatQuantity, formatRtt } from '../../src/status/units.js';
import { SAMPLE, samplePeer } from '../lib/status-report.js';

const render = (report: StatusReport, width: number) => renderStatus(report, { ...ONE_LOOK, width });

/** SAMPLE a second earlier, with nothing sent yet. */
function secondBefore(report: StatusReport): StatusReport {
  const { dataplane } = report;
  assert.ok(dataplane);
  const encap = { ...dataplane.encap, packetsOut: 0, bytes: 0 };
  const peers = report.peers.map((peer) => ({
    ...peer,
    traffic: peer.traffic && { ...peer.traffic, packetsOut: 0, bytesOut: 0 },
  }));
  return { ...report, at: '2026-01-01T03:12:04.000Z', dataplane: { ...dataplane, encap }, peers };
}

const GOLDEN = new Map([
  [
    80,
    `flanneld 1.2.3  ● ready                                  up 3 h 12 min, pid 4321

lease       10.244.7.0/24 of 10.244.0.0/16, runs out in 20 h 47 min, renewal in
            19 h 47 min
reached at  192.0.2.7:8285 over eth0, MTU 1500
device      flannel0, MTU 1472
rules       iptables, complete, repaired 2 times, last 5 min ago
store       Etcd Local Manager, reachable for 3 h 12 min, heard 3 s ago
features    udp-offload (batch gso gro, without tso uso), 2 queues, split
            threads
dataplane   4 routes, a standby is ready
out             1.20 MB  1.00 k packets
in              3.36 kB  40 packets
dropped     encap_no_route 12

4 peers
SUBNET              PEER                        OUT        IN        RTT    MTU
10.244.9.0/24       192.0.2.9:8285          1.00 MB     840 B    2.25 ms   1500
10.244.8.0/24       192.0.2.8:8285           200 kB     840 B    2.00 ms   1500
10.244.10.0/24      192.0.2.10:8285             0 B     840 B  no answer   1400
10.244.11.0/24      192.0.2.11:8285               –         –          –   1500

last warning, 12 min 5 s ago
  lost etcd (connection refused); keeping the leases known so far and trying to
  reconnect`,
  ],
  [
    50,
    `flanneld 1.2.3  ● ready    up 3 h 12 min, pid 4321

lease       10.244.7.0/24 of 10.244.0.0/16, runs
            out in 20 h 47 min, renewal in 19 h 47
            min
reached at  192.0.2.7:8285 over eth0, MTU 1500
device      flannel0, MTU 1472
rules       iptables, complete, repaired 2 times,
            last 5 min ago
store       Etcd Local Manager, reachable for 3 h
            12 min, heard 3 s ago
features    udp-offload (batch gso gro, without
            tso uso), 2 queues, split threads
dataplane   4 routes, a standby is ready
out             1.20 MB  1.00 k packets
in              3.36 kB  40 packets
dropped     encap_no_route 12

4 peers
SUBNET                   OUT        IN        RTT
10.244.9.0/24        1.00 MB     840 B    2.25 ms
10.244.8.0/24         200 kB     840 B    2.00 ms
10.244.10.0/24           0 B     840 B  no answer
10.244.11.0/24             –         –          –

last warning, 12 min 5 s ago
  lost etcd (connection refused); keeping the
  leases known so far and trying to reconnect`,
  ],
]);

describe('one look', () => {
  for (const [width, golden] of GOLDEN) {
    test('the endpoint of a peer over IPv6 has brackets', () => {
      const peers = [samplePeer(1, 1000, { publicIp: '2001:db8::7' })];
      assert.match(render({ ...SAMPLE, peers, peerCount: 1 }, 120).join('\n'), / \[2001:db8::7\]:8285 /);
    });

    test(`at ${width} columns`, () => {
      assert.equal(render(SAMPLE, width).join('\n'), golden);
    });
  }

  test('no line is wider than the terminal, whatever there is to say', () => {
    const long = 'x'.repeat(300);
    const report = {
      ...SAMPLE,
      ready: false,
      reason: `store failed: ${long} ${'word '.repeat(50)}`,
      problems: [{ at: SAMPLE.at, severity: 'error' as const, message: long }],
      rttUnavailable: long,
    };
    for (const width of [40, 64, 80, 200]) {
      for (const line of render(report, width)) assert.ok(line.length <= width, `${width}: ${line}`);
    }
  });

  test('of a daemon that waits says for what', () => {
    const waiting = {
      ...SAMPLE,
      ready: false,
      phase: 'waiting for the network config',
      reason: 'phase failed: waiting for the network config',
      lease: null,
      interface: null,
      device: null,
      trafficRules: null,
      dataplane: null,
      peers: [],
      peerCount: 0,
    };
    const text = render(waiting, 80).join('\n');
    assert.match(text, /● not ready/);
    assert.match(text, /^ {2}phase failed: waiting for the network config$/m);
    assert.match(text, /^lease +none yet \(waiting for the network config\)$/m);
    assert.match(text, /^0 peers$/m);
  });

  for (const [change, words] of [
    [{ manager: null, inPlace: false, repairs: 0, lastRepair: null }, /^rules +none wanted$/m],
    [{ repairs: 0, lastRepair: null }, /^rules +iptables, complete$/m],
    [{ inPlace: false, lastError: 'refused' }, /^rules +iptables, cannot be looked at: refused$/m],
    [
      { inPlace: false, lastError: 'refused', incompleteSince: '2026-01-01T03:11:05.000Z' },
      /^rules +iptables, incomplete for 1 min: refused$/m,
    ],
  ] as const) {
    test(`traffic rules with ${JSON.stringify(change)}`, () => {
      const { trafficRules } = SAMPLE;
      assert.ok(trafficRules);
      const text = render({ ...SAMPLE, trafficRules: { ...trafficRules, ...change } }, 80).join('\n');
      assert.match(text, words);
    });
  }

  test('nothing that a terminal acts upon gets through', () => {
    const report = {
      ...SAMPLE,
      reason: 'a\x1b]0;title\x07b\u202e\u009b2J',
      problems: [{ at: SAMPLE.at, severity: 'error' as const, message: '\x1b[2J\r\n' }],
    };
    // eslint-disable-next-line no-control-regex -- that is what must not be there
    assert.doesNotMatch(render(report, 80).join(''), /[\x00-\x1f\x7f-\x9f\u202e]/);
  });

  test('colours only where they are wanted', () => {
    assert.ok(!render(SAMPLE, 80).join('').includes('\x1b'));
    const text = renderStatus(SAMPLE, { ...ONE_LOOK, width: 80, paint: coloured }).join('\n');
    assert.ok(text.includes('\x1b[32m● ready\x1b[0m') && text.includes('\x1b[31mno answer\x1b[0m'));
  });
});

describe('a view that follows', () => {
  test('has rates, the busiest peer first', () => {
    const rates = ratesBetween(secondBefore(SAMPLE), SAMPLE);
    const history = { out: [0, 4, 8], in: [0] };
    const lines = renderStatus(SAMPLE, { ...ONE_LOOK, width: 80, rates, history });
    const text = lines.join('\n');
    assert.match(text, /^out +9\.60 Mbit\/s +1\.00 kpps +▁▅█$/m);
    assert.match(text, /^in +0 bit\/s +0 pps +▁$/m);
    const first = lines.findIndex((line) => line.startsWith('SUBNET'));
    assert.match(
      lines[first + 1] ?? '',
      /^10\.244\.9\.0\/24 +192\.0\.2\.9 +8\.00 Mbit\/s +0 bit\/s +2\.25 ms +1500$/,
    );
    assert.match(lines[first + 2] ?? '', /^10\.244\.8\.0\/24 .* 1\.60 Mbit\/s/);
  });

  test('fits the height, and says how many peers are left out', () => {
    const peers = Array.from({ length: 1000 }, (_, i) => samplePeer(i % 250, i));
    const report = { ...SAMPLE, peers, peerCount: 1000 };
    for (const height of [24, 40, 100]) {
      const lines = renderStatus(report, { ...ONE_LOOK, width: 80, height });
      assert.equal(lines.length, height);
      const shown = lines.filter((line) => line.startsWith('10.244.')).length;
      assert.ok(lines.includes(`… and ${1000 - shown} more`));
    }
  });
});

describe('rates', () => {
  test('are none between two runs, or backwards', () => {
    const before = secondBefore(SAMPLE);
    assert.equal(ratesBetween({ ...before, pid: 1 }, SAMPLE), null);
    assert.equal(ratesBetween({ ...before, startedAt: SAMPLE.at }, SAMPLE), null);
    assert.equal(ratesBetween(SAMPLE, before), null);
    assert.equal(ratesBetween(SAMPLE, SAMPLE), null);
  });

  test('are never below zero, as after a peer went and came back', () => {
    const { total, peers } = ratesBetween(
      { ...SAMPLE, at: '2026-01-01T03:12:04.000Z' },
      { ...secondBefore(SAMPLE), at: SAMPLE.at },
    ) ?? { total: null, peers: new Map() };
    assert.deepEqual(total, { bitsOut: 0, bitsIn: 0, packetsOut: 0, packetsIn: 0 });
    assert.equal(peers.size, 3);
  });
});

describe('figures', () => {
  const table: readonly [string, string][] = [
    [formatQuantity(0, 'B'), '0 B'],
    [formatQuantity(999, 'B'), '999 B'],
    [formatQuantity(999.6, 'B'), '1.00 kB'],
    [formatQuantity(1234, ''), '1.23 k'],
    [formatQuantity(99_960, 'bit/s'), '100 kbit/s'],
    [formatQuantity(9.999e9, 'bit/s'), '10.0 Gbit/s'],
    [formatQuantity(1e21, 'B'), '1000000 PB'],
    [formatDuration(0), '0 s'],
    [formatDuration(59.6), '1 min'],
    [formatDuration(3600), '1 h'],
    [formatDuration(90_061), '1 d 1 h'],
    [formatDuration(-5), '0 s'],
    [formatRtt(0.0804), '0.080 ms'],
    [formatRtt(0.99951), '1.00 ms'],
    [formatRtt(123.4), '123 ms'],
    [fit('abcdef', 4), 'abc…'],
    [fit('abcd', 4), 'abcd'],
    [wrap('aa bb ccccccc', 5).join('|'), 'aa bb|cccc…'],
    [sparkline([0, 0], 4), '  ▁▁'],
    [sparkline([9, 1, 2, 4, 8], 4), '▂▃▅█'],
  ];
  for (const [found, wanted] of table) {
    test(wanted, () => {
      assert.equal(found, wanted);
    });
  }
});
