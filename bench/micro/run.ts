/**
 * `npm run bench:micro`: the control plane's paths that grow with the network, at 65,536 leases. Each line says how
 * long one call takes; the relative margin of error is that of benchmark.js (95 % confidence).
 */
import Benchmark from 'benchmark';
import { parseNetworkConfig } from '../../src/config.js';
import { Cidr4 } from '../../src/ip.js';
import { formatLeaseValue, parseLeaseValue } from '../../src/lease/lease-value.js';
import type { StoredLease } from '../../src/lease/lease.js';
import { formatSubnetKey } from '../../src/lease/subnet-key.js';
import { LeaseTracker } from '../../src/lease/tracker.js';
import { decodeEntry } from '../../src/subnet/entry.js';
import { rpc } from '../../src/subnet/etcd/proto.js';
import { formatNumber } from '../report/metrics.js';
import { formatTable } from '../table.js';

const LEASES = 65_536;

function lease(index: number): StoredLease {
  return {
    subnet: { v4: new Cidr4(0x0a00_0000 + index * 256, 24), v6: null },
    attrs: {
      publicIp: 0xac10_0000 + index,
      publicIpV6: null,
      backendType: '',
      backendData: null,
      backendV6Data: null,
    },
    revision: '1',
    reservation: false,
    writer: 'elsewhere',
  };
}

const leases = Array.from({ length: LEASES }, (_, i) => lease(i));
const entries = leases.map(
  ({ subnet, attrs }) => [formatSubnetKey(subnet), formatLeaseValue(attrs)] as const,
);
const config = JSON.stringify({
  Network: '10.0.0.0/8',
  SubnetLen: 24,
  SubnetMin: '10.0.1.0',
  SubnetMax: '10.255.255.0',
  Backend: { Type: 'udp', Port: 8285 },
});

/** etcd's answer to a request for all leases, as it arrives at every start. */
const answer = rpc.range.responseSerialize({
  header: { cluster_id: '1', revision: '1', raft_term: '1' },
  kvs: entries.map(([key, value]) => ({
    key: Buffer.from(key),
    value: Buffer.from(value),
    create_revision: '1',
    mod_revision: '1',
    lease: '1',
  })),
});

const known = new LeaseTracker('10.255.255.0-24');
known.apply([{ type: 'snapshot', leases }]);
const moved = leases.map((one, i) =>
  i % 100 === 0 ? { ...one, attrs: { ...one.attrs, publicIp: one.attrs.publicIp + LEASES } } : one,
);
let turn = 0;

/** Name, whether it works on all leases at once, and what is timed. Results are kept, so that nothing is optimised away. */
const CASES: readonly (readonly [string, number, () => unknown])[] = [
  ['network config: parse and validate', 1, () => parseNetworkConfig(config)],
  ['lease value: parse one', 1, () => parseLeaseValue(entries[0]?.[1] ?? '')],
  [
    'entry: decode key and value, all leases',
    LEASES,
    () => entries.map(([key, value]) => decodeEntry(key, value)),
  ],
  ['etcd: decode the range response, all leases', LEASES, () => rpc.range.responseDeserialize(answer)],
  [
    'etcd: range response to leases, all leases',
    LEASES,
    () =>
      rpc.range
        .responseDeserialize(answer)
        .kvs.map(({ key, value }) => decodeEntry(key.toString(), value.toString())),
  ],
  [
    'lease diff: first snapshot, all leases',
    LEASES,
    () => new LeaseTracker('10.255.255.0-24').apply([{ type: 'snapshot', leases }]),
  ],
  [
    'lease diff: snapshot with 1 % changed',
    LEASES,
    () => known.apply([{ type: 'snapshot', leases: turn++ % 2 === 0 ? moved : leases }]),
  ],
  [
    'lease diff: one put among all leases',
    1,
    () => known.apply([{ type: 'put', lease: (turn++ % 2 === 0 ? moved : leases)[0] ?? lease(0) }]),
  ],
];

/** A benchmark that has run: times in seconds, the margin of error in percent. */
interface Finished {
  readonly name: string;
  readonly stats: { readonly mean: number; readonly rme: number; readonly sample: readonly number[] };
  readonly error?: Error;
}

let sink: unknown;
const suite = new Benchmark.Suite();
for (const [name, , run] of CASES) suite.add(name, () => (sink = run()), { maxTime: 2 });
const rows: string[][] = [];
suite.on('cycle', ({ target }: Benchmark.Event) => {
  // The published types leave out what a target carries once it has run.
  const { name, stats, error } = target as unknown as Finished;
  if (error !== undefined) throw error;
  const items = CASES.find(([other]) => other === name)?.[1] ?? 1;
  const each = formatNumber((stats.mean * 1e9) / items);
  rows.push([
    name,
    time(stats.mean),
    `± ${stats.rme.toFixed(1)} %`,
    `${each} ns`,
    String(stats.sample.length),
  ]);
  process.stderr.write(`${name}\n`);
});
suite.run();
process.stdout.write(`${formatTable(['path', 'time a call', 'error', 'an item', 'samples'], rows)}\n`);
if (sink === undefined) throw new Error('nothing ran');

function time(seconds: number): string {
  if (seconds >= 1e-3) return `${formatNumber(seconds * 1e3)} ms`;
  return seconds >= 1e-6 ? `${formatNumber(seconds * 1e6)} µs` : `${formatNumber(seconds * 1e9)} ns`;
}
