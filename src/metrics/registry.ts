/**
 * Families as Prometheus reads them, by prom-client: its registry keeps their names apart and writes the text. Each is
 * registered as a collector of ready-made values rather than as one of the library's counters, which would have to count
 * again what is counted elsewhere. A registry lasts for one answer, so all of that tells of one moment.
 */
import { Registry, validateMetricName } from 'prom-client';
import type { Metric } from 'prom-client';
import type { Family, Labels, Sample } from './family.js';

export const CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/** The text comes in pieces of at most this many characters, between which others get their turn. */
const PIECE = 32_768;

/** Samples that the registry writes at a time. */
const PORTION = 100;

/** A sample as the registry takes it. */
interface Value {
  readonly value: number;
  readonly labels: Labels;
  /** The name of the series where it is not the family's. */
  readonly metricName: string;
}

/**
 * The text in pieces of whole lines. A family without samples leaves no trace.
 * @throws Error for a name that is taken or that Prometheus would refuse.
 */
export async function* expose(families: Iterable<Family>): AsyncGenerator<string> {
  const registry = new Registry();
  let piece = '';
  for (const family of families) {
    for await (const text of portions(registry, family)) {
      if (piece.length + text.length > PIECE) {
        yield piece;
        piece = '';
      }
      piece += text;
    }
  }
  if (piece !== '') yield piece;
}

async function* portions(registry: Registry, family: Family): AsyncGenerator<string> {
  const { name, type, help, samples } = family;
  if (!validateMetricName(name)) throw new Error(`${name} is no name of a metric`);
  const rest = samples[Symbol.iterator]();
  let values: readonly Value[] = [];
  const collector = { name, get: () => Promise.resolve({ name, type, help, values }) };
  // Its types know only its own classes, but of a metric the registry uses just these two.
  registry.registerMetric(collector as unknown as Metric);
  for (let first = true; ; first = false) {
    values = take(rest, name);
    if (values.length === 0) return;
    const text = await registry.getSingleMetricAsString(name);
    yield first ? `${text}\n` : `${withoutHead(text)}\n`;
  }
}

function take(samples: Iterator<Sample>, name: string): Value[] {
  const values: Value[] = [];
  while (values.length < PORTION) {
    const next = samples.next();
    if (next.done === true) break;
    const { value, labels = {}, suffix = '' } = next.value;
    values.push({ value, labels, metricName: name + suffix });
  }
  return values;
}

/** Without `# HELP` and `# TYPE`, which stand once above all samples of a family. */
function withoutHead(text: string): string {
  return text.slice(text.indexOf('\n', text.indexOf('\n') + 1) + 1);
}
