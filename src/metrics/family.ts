/** What a metric is before it is written out: its values are kept by others and looked at when they are asked for. */
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
    yield { suffix: '_bucket', labels: { le: String(bound) }, value: total };
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
