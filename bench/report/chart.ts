/** A result as an SVG chart: a panel for each trial, a bar for each contender, and a line over its range. */
import type { Trial } from '../trials/trial.js';
import { METRICS, formatMetric } from './metrics.js';
import type { Figure, Result } from './result.js';

const PANEL = { width: 360, left: 100, right: 60, top: 46, row: 22, bottom: 18 };
const COLUMNS = 2;
const HEADER = 56;
const COLOURS = [
  '#9aa5b1',
  '#6b7c93',
  '#b0894f',
  '#8f4f4f',
  '#4f7f9f',
  '#3f9f8f',
  '#2f6fdf',
  '#7f5faf',
  '#af5f8f',
];

interface Panel {
  readonly title: string;
  readonly note: string;
  readonly bars: readonly Figure[];
}

/** The chart as a document of its own. */
export function formatChart(result: Result, trials: readonly Trial[]): string {
  const names = result.contenders.map(({ name }) => name);
  const panels = panelsOf(result, trials);
  const body: string[] = [];
  let top = HEADER;
  for (let i = 0; i < panels.length; i += COLUMNS) {
    const line = panels.slice(i, i + COLUMNS);
    line.forEach((panel, column) => body.push(drawPanel(panel, column * PANEL.width, top, names)));
    top += Math.max(...line.map(heightOf));
  }
  const width = PANEL.width * COLUMNS;
  const { machine, started } = result;
  const origin = `${machine.cpu}, ${machine.cores} cores, Linux ${machine.kernel}, ${started.slice(0, 10)}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${top}" viewBox="0 0 ${width} ${top}" ` +
      'font-family="system-ui, sans-serif" font-size="12">',
    `<rect width="${width}" height="${top}" fill="#ffffff"/>`,
    text(
      16,
      24,
      'Packet dataplanes: medians, and the range of the rounds',
      'font-size="15" font-weight="bold"',
    ),
    text(16, 42, origin, 'fill="#666666"'),
    ...body,
    '</svg>\n',
  ].join('\n');
}

function panelsOf(result: Result, trials: readonly Trial[]): Panel[] {
  return trials.flatMap(({ variants, metrics }) =>
    variants.flatMap(({ label }) => {
      const [metric] = metrics;
      const bars = result.figures.filter((figure) => figure.trial === label && figure.metric === metric);
      if (bars.length === 0) return [];
      const { title, better } = METRICS[metric];
      return [{ title: label, note: `${title}, ${better} is better`, bars }];
    }),
  );
}

function heightOf({ bars }: Panel): number {
  return PANEL.top + bars.length * PANEL.row + PANEL.bottom;
}

function drawPanel({ title, note, bars }: Panel, x: number, y: number, names: readonly string[]): string {
  const room = PANEL.width - PANEL.left - PANEL.right;
  const most = Math.max(...bars.map(({ max }) => max), Number.MIN_VALUE);
  const at = (value: number) => x + PANEL.left + (value / most) * room;
  const parts = [
    text(x + 16, y + 16, title, 'font-weight="bold"'),
    text(x + 16, y + 32, note, 'fill="#666666" font-size="11"'),
  ];
  bars.forEach(({ contender, metric, median, min, max }, i) => {
    const top = y + PANEL.top + i * PANEL.row;
    const middle = top + 8;
    const colour = COLOURS[names.indexOf(contender) % COLOURS.length] ?? '#888888';
    const width = number(Math.max(at(median) - at(0), 1));
    parts.push(
      text(x + PANEL.left - 6, top + 12, contender, 'text-anchor="end"'),
      `<rect x="${number(at(0))}" y="${top}" width="${width}" height="16" rx="2" fill="${colour}"/>`,
      `<path d="M${number(at(min))} ${middle}H${number(at(max))}" stroke="#222222" stroke-width="1.5"/>`,
      text(at(max) + 5, top + 12, formatMetric(metric, median), ''),
    );
  });
  return parts.join('\n');
}

function text(x: number, y: number, content: string, attributes: string): string {
  return `<text x="${number(x)}" y="${number(y)}" ${attributes}>${escaped(content)}</text>`;
}

function number(value: number): string {
  return value.toFixed(1);
}

function escaped(content: string): string {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
