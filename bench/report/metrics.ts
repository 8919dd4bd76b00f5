/** Every figure that a trial can give: its unit, and which way is better. */

export interface MetricInfo {
  /** Heading of its column. */
  readonly title: string;
  readonly better: 'higher' | 'lower';
  /** What is shown is the value times this. */
  readonly scale: number;
  readonly meaning: string;
}

const higher = (title: string, meaning: string, scale = 1): MetricInfo => ({
  title,
  better: 'higher',
  scale,
  meaning,
});
const lower = (title: string, meaning: string, scale = 1): MetricInfo => ({
  title,
  better: 'lower',
  scale,
  meaning,
});

export const METRICS = {
  gbps: higher('Gbit/s', 'payload that arrived, in 10^9 bit a second'),
  pps: higher('kpps', 'packets that arrived a second; in the table in thousands', 1e-3),
  offered_pps: higher('sent kpps', 'packets that were sent a second', 1e-3),
  ndr_pps: higher('kpps, no loss', 'the highest rate that was forwarded without loss', 1e-3),
  pdr_pps: higher(
    'kpps, ≤ 0.5 % loss',
    'the highest rate that was forwarded with a loss of at most 0.5 %',
    1e-3,
  ),
  loss: lower('loss %', 'share of the packets that did not arrive', 100),
  fwd_cpu_s_per_gb: lower(
    'forwarder s/GB',
    'processor time of the forwarder processes of all hosts for 10^9 bytes of payload',
  ),
  fwd_us_per_packet: lower(
    'forwarder µs/packet',
    'processor time of the forwarder processes of all hosts for a packet that arrived',
  ),
  machine_cpu_s_per_gb: lower(
    'machine s/GB',
    'processor time of the whole machine, traffic generators included, for 10^9 bytes of payload',
  ),
  machine_us_per_packet: lower(
    'machine µs/packet',
    'processor time of the whole machine, traffic generators included, for a packet that arrived',
  ),
  rtt_us: lower('RTT p50 µs', 'median round trip of a UDP packet of 64 bytes'),
  rtt_p99_us: lower('RTT p99 µs', '99 % of the round trips were no longer'),
  rtt_p999_us: lower('RTT p99.9 µs', '99.9 % of the round trips were no longer'),
} as const satisfies Record<string, MetricInfo>;

export type Metric = keyof typeof METRICS;

/** What a sample says. */
export type Values = Partial<Record<Metric, number>>;

/** Three significant digits, without an exponent. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return size >= 1 || size === 0 ? value.toFixed(2) : value.toFixed(3);
}

/** A value as its column shows it. */
export function formatMetric(metric: Metric, value: number): string {
  return formatNumber(value * METRICS[metric].scale);
}
