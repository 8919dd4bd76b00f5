/**
 * Metrics as Prometheus reads them (text exposition format 0.0.4). The values are kept by others and looked at when they
 * are asked for, so there is nothing here that counts.
 */
export const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export type Labels = Readonly<Record<string, string>>;

export interface Sample {
  readonly value: number;
  readonly labels?: Labels;
  /** Of a histogram's series. */
  readonly suffix?: '_bucket' | '_sum' | '_count';
}

/** Everything under one name. */
export interface Family {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly samples: Iterable<Sample>;
}

/** Series are rendered in pieces of this many characters, between which others get their turn. */
const PIECE = 32_768;

/** The text in pieces. A family without samples leaves no trace. */
export function* expose(families: Iterable<Family>): Generator<string> {
  let piece = '';
  for (const { name, type, help, samples } of families) {
    let head = `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n`;
    for (const { value, labels, suffix = '' } of samples) {
      piece += `${head}${name}${suffix}${formatLabels(labels)} ${formatValue(value)}\n`;
      head = '';
      if (piece.length < PIECE) continue;
      yield piece;
      piece = '';
    }
  }
  if (piece !== '') yield piece;
}

/** The samples of a histogram; `counts` has one more bucket than `bounds`, for what lies beyond. */
export function* histogramSamples(
  bounds: Iterable<number>,
  counts: ArrayLike<number>,
  sum: number,
): Generator<Sample> {
  let total = 0;
  let bucket = 0;
  for (const bound of bounds) {
    total += counts[bucket++] ?? 0;
    yield { suffix: '_bucket', labels: { le: formatValue(bound) }, value: total };
  }
  total += counts[bucket] ?? 0;
  yield { suffix: '_bucket', labels: { le: '+Inf' }, value: total };
  yield { suffix: '_sum', value: sum };
  yield { suffix: '_count', value: total };
}

/** One sample; none for null, which stands for a value that is not known (yet). */
export function one(value: number | boolean | null): Sample[] {
  return value === null ? [] : [{ value: Number(value) }];
}

/** For each of `states` whether it is the present one. */
export function stateSet(
  label: string,
  states: readonly string[],
  present: (state: string) => boolean,
): Sample[] {
  return states.map((state) => ({ labels: { [label]: state }, value: Number(present(state)) }));
}

function formatLabels(labels: Labels | undefined): string {
  if (labels === undefined) return '';
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return `{${pairs.join(',')}}`;
}

function formatValue(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  return Number.isFinite(value) ? String(value) : value > 0 ? '+Inf' : '-Inf';
}

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function escapeLabel(text: string): string {
  return /["\\\n]/.test(text) ? escapeHelp(text).replaceAll('"', '\\"') : text;
}
