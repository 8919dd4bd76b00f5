/** The report for people. */
import { formatTable } from '../table.js';
import { firstLine } from '../session.js';
import type { Trial } from '../trials/trial.js';
import { METRICS, formatMetric, formatNumber } from './metrics.js';
import type { Metric } from './metrics.js';
import type { Figure, Ratio, Result, TrialOutcome } from './result.js';

/** The whole report. */
export function formatReport(result: Result, trials: readonly Trial[]): string {
  const parts = [heading(result), ...trials.flatMap((trial) => section(result, trial))];
  parts.push(...summary(result, trials), ...remarks(result), legend(result, trials));
  return `${parts.join('\n\n')}\n`;
}

function heading({ machine, command, started, seconds, settings }: Result): string {
  const commit = machine.commit === null ? 'unknown commit' : `commit ${machine.commit.slice(0, 12)}`;
  const tcp = machine.congestionControl === null ? '' : `, TCP ${machine.congestionControl}`;
  const lines = [
    '# Benchmark',
    '',
    `- ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB; Linux ${machine.kernel} ${machine.architecture}${tcp}`,
    `- ${commit}${machine.modified ? ' with changes' : ''}, ${started}, ${formatNumber(seconds / 60)} minutes`,
    `- up to ${settings.rounds} rounds, samples of ${settings.sampleSeconds} s; medians, and the range in brackets`,
    `- \`${command}\``,
  ];
  return lines.join('\n');
}

function section(result: Result, trial: Trial): string[] {
  return trial.variants.flatMap(({ label }) => {
    const outcome = result.trials.find((candidate) => candidate.trial === label);
    if (outcome === undefined) return [];
    const figures = result.figures.filter((figure) => figure.trial === label);
    const names = result.contenders.map(({ name }) => name);
    const present = names.filter((name) => figures.some(({ contender }) => contender === name));
    const rows = present.map((name) => [
      name,
      ...trial.metrics.map((metric) => cell(figures, name, metric)),
      ratioCell(result.ratios, label, trial.metrics[0], name),
    ]);
    const head = ['contender', ...trial.metrics.map((metric) => METRICS[metric].title), 'against classic'];
    return [`## ${label}\n\n${trial.summary}; ${rounds(outcome)}`, formatTable(head, rows)];
  });
}

function rounds({ rounds: count, discarded, disturbed }: TrialOutcome): string {
  const measured = `${count} ${count === 1 ? 'round' : 'rounds'}`;
  if (disturbed) return `**${measured}, all of them disturbed: not to be relied on**`;
  return discarded === 0 ? `${measured}.` : `${measured}, ${discarded} more discarded as disturbed.`;
}

function cell(figures: readonly Figure[], contender: string, metric: Metric): string {
  const figure = figures.find((other) => other.contender === contender && other.metric === metric);
  if (figure === undefined) return '–';
  const { median, min, max, rounds: count } = figure;
  const middle = formatMetric(metric, median);
  return count === 1 ? middle : `${middle} (${formatMetric(metric, min)}–${formatMetric(metric, max)})`;
}

function ratioCell(ratios: readonly Ratio[], trial: string, metric: Metric, contender: string): string {
  const ratio = ratios.find(
    (other) =>
      other.trial === trial &&
      other.metric === metric &&
      other.contender === contender &&
      other.against === 'classic',
  );
  return ratio === undefined ? '–' : formatRatio(ratio);
}

function formatRatio({ median, min, max, rounds: count }: Ratio): string {
  const middle = `${formatNumber(median)}x`;
  return count === 1 ? middle : `${middle} (${formatNumber(min)}–${formatNumber(max)})`;
}

/** The fastest own tier against everything that it is usually asked about. */
function summary({ ratios, figures }: Result, trials: readonly Trial[]): string[] {
  const own = ['full', 'udp-offload', 'batch'].find((name) =>
    figures.some(({ contender }) => contender === name),
  );
  if (own === undefined) return [];
  const rows: string[][] = [];
  for (const { variants, metrics } of trials) {
    for (const { label } of variants) {
      for (const metric of metrics.filter((name) => /^(?:gbps|pps|ndr_pps|rtt_us|fwd_.*)$/.test(name))) {
        const about = (against: string) =>
          ratios.find(
            (ratio) =>
              ratio.trial === label &&
              ratio.metric === metric &&
              ratio.contender === own &&
              ratio.against === against,
          );
        const cells = ['classic', 'vxlan', 'bare'].map(about);
        if (cells.every((ratio) => ratio === undefined)) continue;
        const better = METRICS[metric].better === 'higher' ? 'more is better' : 'less is better';
        const texts = cells.map((ratio) => (ratio === undefined ? '–' : formatRatio(ratio)));
        rows.push([label, `${METRICS[metric].title} (${better})`, ...texts]);
      }
    }
  }
  for (const ratio of ratios) {
    if (ratio.contender !== own || !ratio.against.startsWith(`${own}@`) || ratio.metric !== 'pps') continue;
    rows.push([ratio.trial, `kpps, against ${ratio.against}: ${formatRatio(ratio)}`, '–', '–', '–']);
  }
  const head = ['trial', 'figure', 'against classic', 'against vxlan', 'against bare'];
  return [
    `## ${own} against the others\n\nRatios within each round, then the median (and range).`,
    formatTable(head, rows),
  ];
}

function remarks(result: Result): string[] {
  const { absences, samples, trials, features, complete } = result;
  const lines: string[] = [];
  const byReason = new Map<string, Set<string>>();
  for (const { trial, contender, reason } of absences) {
    const key =
      contender === null ? `no ${trial}: ${firstLine(reason)}` : `${contender}: ${firstLine(reason)}`;
    byReason.set(key, (byReason.get(key) ?? new Set()).add(trial));
  }
  for (const [text, where] of byReason) lines.push(`- not measured: ${text} (${[...where].join(', ')})`);
  const errors = new Map<string, number>();
  for (const { trial, contender, error } of samples) {
    if (error === null) continue;
    const key = `${contender} in ${trial}: ${firstLine(error)}`;
    errors.set(key, (errors.get(key) ?? 0) + 1);
  }
  for (const [text, count] of errors) lines.push(`- **failed** ${count}x: ${text}`);
  lines.push(...caveats(result));
  const discarded = trials.reduce((sum, trial) => sum + trial.discarded, 0);
  lines.push(`- ${discarded} disturbed rounds were discarded`);
  const disturbed = trials.filter((trial) => trial.disturbed).map(({ trial }) => trial);
  if (disturbed.length > 0)
    lines.push(`- never undisturbed: ${disturbed.join(', ')}; repeat on a quiet machine`);
  if (!complete) lines.push('- the run is incomplete: see above, and the numbers of rounds');
  return [`## Remarks\n\n${[...lines, ...features.map((text) => `- ${text}`)].join('\n')}`];
}

/** The most that `classic` may cost more than the bare loop, or it would flatter what is compared with it. */
const FAIR = 1.15;

/** How `classic` compares with the yardstick, and where a figure is the sender's rather than the contender's. */
function caveats({ ratios, figures }: Result): string[] {
  const lines: string[] = [];
  for (const { trial, metric, contender, against, median } of ratios) {
    if (contender !== 'classic' || against !== 'c-loop' || metric !== 'fwd_us_per_packet') continue;
    const verdict = median <= FAIR ? 'fair' : '**too slow to stand for the stock proxy**';
    lines.push(`- classic costs ${formatNumber(median)}x of c-loop a packet in ${trial}: ${verdict}`);
  }
  const medianOf = ({ trial, contender }: Figure, metric: Metric) =>
    figures.find((other) => other.trial === trial && other.contender === contender && other.metric === metric)
      ?.median;
  const limited = figures.filter(
    (figure) =>
      figure.metric === 'loss' &&
      figure.median < 0.01 &&
      OVERLOAD.test(figure.trial) &&
      medianOf(figure, 'fwd_us_per_packet') !== undefined,
  );
  for (const { trial, contender } of limited) {
    lines.push(`- ${contender} in ${trial} lost next to nothing: the sender was the limit`);
  }
  return lines;
}

/** Trials that send as fast as they can. */
const OVERLOAD = /^(?:udp|imix|flows|routes)/;

function legend({ contenders }: Result, trials: readonly Trial[]): string {
  const used = new Set(trials.flatMap(({ metrics }) => metrics));
  return [
    '## Legend',
    '',
    ...contenders.map(({ name, summary: text }) => `- **${name}**: ${text}`),
    ...[...used].map((metric) => `- ${METRICS[metric].title}: ${METRICS[metric].meaning}`),
  ].join('\n');
}
