import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { before, describe, test } from 'node:test';
import fc from 'fast-check';
import { counters, histograms } from '../../src/dataplane.js';
import type { PeerTraffic, Stats } from '../../src/dataplane.js';
import { spansOf } from '../lib/store.js';
import { Cidr4, parseIp4 } from '../../src/ip.js';
import { countSubnets, freeSubnets } from '../../src/lease/free-subnets.js';
import { ipv4Space } from '../../src/lease/subnet-space.js';
import { backendFamilies } from '../../src/metrics/dataplane.js';
import { histogramSamples } from '../../src/metrics/family.js';
import type { Family } from '../../src/metrics/family.js';
import { peerFamilies } from '../../src/metrics/peers.js';
import { expose } from '../../src/metrics/registry.js';

const piecesOf = async (families: Iterable<Family>): Promise<string[]> =>
  (await Readable.from(expose(families)).toArray()) as string[];
const text = async (families: Iterable<Family>): Promise<string> => (await piecesOf(families)).join('');

/** Every counter its index + 1, every histogram its buckets' indexes and 0.5. */
const STATS: Stats = {
  counters: Float64Array.from(counters, (_, i) => i + 1),
  histograms: histograms.map(({ bounds }) => Float64Array.from([...bounds, 0].map((_, i) => i).concat(0.5))),
  features: ['batch', 'gso', 'gro'],
  routes: 7,
  failure: null,
  restarts: 2,
  standing: 'owner',
  standingReason: null,
  stoodBy: true,
};

describe('exposition', () => {
  test('of names, labels and values', async () => {
    const samples = [
      { labels: { a: 'x"\\\n', b: '' }, value: 1.5 },
      { value: Infinity },
      { value: NaN },
      { value: 2 ** 53 },
    ];
    assert.equal(
      await text([
        { name: 'n', type: 'gauge', help: 'a \\ b\nc', samples },
        { name: 'none', type: 'counter', help: '', samples: [] },
      ]),
      '# HELP n a \\\\ b\\nc\n# TYPE n gauge\nn{a="x\\"\\\\\\n",b=""} 1.5\nn +Inf\nn Nan\nn 9007199254740992\n',
    );
  });

  test('of a histogram is cumulative', async () => {
    const samples = [...histogramSamples([1, 2], [5, 0, 2], 12)];
    assert.equal(
      await text([{ name: 'h', type: 'histogram', help: 'H', samples }]),
      '# HELP h H\n# TYPE h histogram\nh_bucket{le="1"} 5\nh_bucket{le="2"} 5\nh_bucket{le="+Inf"} 7\nh_sum 12\nh_count 7\n',
    );
  });

  test('comes in pieces', async () => {
    const samples = Array.from({ length: 10_000 }, (_, value) => ({ value }));
    const pieces = await piecesOf([{ name: 'many', type: 'gauge', help: '', samples }]);
    assert.ok(pieces.length > 3 && pieces.every((piece) => piece.length < 40_000 && piece.endsWith('\n')));
    const lines = samples.map(({ value }) => `many ${value}\n`);
    assert.equal(pieces.join(''), ['# HELP many \n# TYPE many gauge\n', ...lines].join(''));
  });

  test('refuses a name that is taken, and one that Prometheus would refuse', async () => {
    const family: Family = { name: 'n', type: 'gauge', help: '', samples: [{ value: 1 }] };
    await assert.rejects(text([family, family]), /the name n has already been registered/);
    await assert.rejects(text([{ ...family, name: 'n-1' }]), /n-1 is no name of a metric/);
  });
});

describe('the dataplane', () => {
  const observation = {
    device: 'flannel0',
    mtu: 1472,
    repairs: new Map([['state up', 3]]),
    failure: null,
    plan: null,
  };
  let lines: string[];
  before(async () => {
    lines = (await text(backendFamilies({ ...observation, dataplane: STATS }))).split('\n');
  });

  test('every counter is told, with its sentence', () => {
    for (const [i, { name, direction, role, help }] of counters.entries()) {
      const reason = name.slice(direction.length + 1);
      const metric = role === 'drop' ? `flanneld_${direction}_drops_total` : `flanneld_${name}_total`;
      const labels = role === 'drop' ? `{reason="${reason}"}` : '';
      assert.ok(lines.includes(`${metric}${labels} ${i + 1}`), name);
      assert.ok(
        lines.some((line) => line.startsWith(`# HELP ${metric} `) && line.includes(help)),
        name,
      );
    }
  });

  test('every histogram is told', () => {
    for (const { name, help, bounds } of histograms) {
      const count = (bounds.length * (bounds.length + 1)) / 2;
      assert.ok(lines.includes(`# HELP flanneld_${name} ${help}`), name);
      assert.ok(lines.includes(`flanneld_${name}_count ${count}`), name);
      assert.ok(lines.includes(`flanneld_${name}_sum 0.5`), name);
    }
  });

  test('features, tier, standing and what was done to keep it', () => {
    for (const line of [
      'flanneld_feature_enabled{feature="gro"} 1',
      'flanneld_feature_enabled{feature="uso"} 0',
      'flanneld_tier_enabled{tier="udp-offload"} 1',
      'flanneld_tier_enabled{tier="full"} 0',
      'flanneld_standing{standing="owner"} 1',
      'flanneld_stood_by 1',
      'flanneld_dataplane_restarts_total 2',
      'flanneld_device_repairs_total{what="state up"} 3',
      'flanneld_dataplane_running 1',
      'flanneld_routes 7',
    ]) {
      assert.ok(lines.includes(line), line);
    }
  });

  test('of a backend that leaves packets to the kernel has no counters', async () => {
    const kernel = await text(backendFamilies({ ...observation, dataplane: null }));
    assert.doesNotMatch(kernel, /encap|routes/);
    assert.match(kernel, /flanneld_device_mtu_bytes\{device="flannel0"\} 1472/);
  });
});

describe('peers', () => {
  const peer = (n: number, bytes: number): PeerTraffic => ({
    address: (parseIp4('10.0.0.0') ?? 0) + n,
    port: 8285,
    packetsOut: 1,
    bytesOut: bytes,
    packetsIn: 2,
    bytesIn: 0,
    pathMtu: null,
  });

  test('each have five series', async () => {
    assert.match(
      await text(peerFamilies([peer(1, 5)], 10, 1500)),
      /flanneld_peer_packets_out_total\{peer="10\.0\.0\.1:8285"\} 1\n[^]*bytes_out_total\{.*\} 5\n[^]*packets_in_total\{.*\} 2\n[^]*bytes_in_total\{.*\} 0\n[^]*path_mtu_bytes\{.*\} 1500\n[^]*flanneld_peers_without_series 0\n/,
    );
  });

  test('over IPv6, with the path MTU that is known, else that of the link, if there is one', async () => {
    const narrow = { ...peer(0, 1), address: '2001:db8::1', pathMtu: 1400 };
    const lines = async (linkMtu: number | null) =>
      (await text(peerFamilies([narrow, peer(1, 1)], 10, linkMtu))).match(/^\w*path_mtu_bytes\{.*/gm);
    const known = 'flanneld_peer_path_mtu_bytes{peer="[2001:db8::1]:8285"} 1400';
    assert.deepEqual(await lines(1500), [known, 'flanneld_peer_path_mtu_bytes{peer="10.0.0.1:8285"} 1500']);
    assert.deepEqual(await lines(null), [known]);
  });

  test('are as many as allowed, the busiest, whatever ties there are', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(5), { maxLength: 40 }), fc.nat(45), (bytes, most) => {
        const families = peerFamilies(
          bytes.map((count, n) => peer(n, count)),
          most,
          1500,
        );
        const told = [...(families[1]?.samples ?? [])].map(({ value }) => value);
        const expected = [...bytes].sort((a, b) => b - a).slice(0, most);
        assert.deepEqual(
          told.sort((a, b) => b - a),
          expected,
        );
        assert.deepEqual([...(families.at(-1)?.samples ?? [])], [{ value: bytes.length - expected.length }]);
      }),
    );
  });
});

test('free subnets are counted as they are allocated', () => {
  const prefix = fc.tuple(fc.nat(0xffff), fc.integer({ min: 14, max: 32 }));
  fc.assert(
    fc.property(fc.array(prefix, { maxLength: 30 }), fc.nat(100), fc.nat(100), (prefixes, from, more) => {
      const base = parseIp4('10.1.0.0') ?? 0;
      const range = { subnetLen: 24, subnetMin: base + from * 256, subnetMax: base + (from + more) * 256 };
      const space = ipv4Space(range);
      const cidrs = prefixes.map(([offset, length]) => new Cidr4(base + offset, length));
      const taken = spansOf(space, cidrs);
      const { all, free } = countSubnets(space, taken);
      assert.equal(all, more + 1);
      assert.equal(free, freeSubnets(space, [taken], Infinity).length);
    }),
  );
});
