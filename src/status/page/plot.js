/** Two lines over the last two minutes. */
import { formatQuantity } from './units.js';

const NAMESPACE = 'http://www.w3.org/2000/svg';
const SECONDS = 120;
const LEFT = 84;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 22;
const SERIES = ['out', 'in'];

export class Plot {
  #svg;
  /** {at: milliseconds, out, in: bits per second}, oldest first; null where nothing is known. */
  #points = [];

  constructor(svg) {
    this.#svg = svg;
    new ResizeObserver(() => this.#draw()).observe(svg);
  }

  /** A rate at a moment; null makes a gap. */
  add(at, rate) {
    this.#points.push({ at, out: rate?.bitsOut ?? null, in: rate?.bitsIn ?? null });
    this.#points = this.#points.filter((point) => point.at > at - SECONDS * 1000);
    this.#draw();
  }

  #draw() {
    const most = niceLimit(Math.max(0, ...this.#points.flatMap((point) => [point.out ?? 0, point.in ?? 0])));
    const scales = this.#scales(most);
    this.#svg.replaceChildren(...grid(most, scales), ...this.#lines(scales));
    this.#describe(most);
  }

  #scales(most) {
    const { clientWidth: width, clientHeight: height } = this.#svg;
    const now = this.#points.at(-1)?.at ?? 0;
    return {
      width,
      height,
      x: (at) => LEFT + (1 - (now - at) / (SECONDS * 1000)) * (width - LEFT - RIGHT),
      y: (value) => TOP + (1 - value / most) * (height - TOP - BOTTOM),
      ago: (seconds) => now - seconds * 1000,
    };
  }

  #lines({ x, y }) {
    return SERIES.flatMap((name) =>
      runs(this.#points, name).flatMap((run) => {
        const line = run.map((point) => `${x(point.at).toFixed(1)},${y(point[name]).toFixed(1)}`);
        const corner = (point) => `${x(point.at).toFixed(1)},${y(0).toFixed(1)}`;
        const area = [corner(run[0]), ...line, corner(run.at(-1))];
        return [
          shape('polygon', { class: `${name}-area`, points: area.join(' ') }),
          shape('polyline', { class: `${name}-line`, points: line.join(' ') }),
        ];
      }),
    );
  }

  #describe(most) {
    const last = this.#points.at(-1);
    const figures = SERIES.filter((name) => (last?.[name] ?? null) !== null).map(
      (name) => `${name} ${formatQuantity(last[name], 'bit/s')}`,
    );
    const scale = formatQuantity(most, 'bit/s');
    const now = figures.join(', ') || 'unknown';
    this.#svg.setAttribute('aria-label', `Throughput of the last two minutes, up to ${scale}; now ${now}`);
  }
}

function grid(most, { width, height, x, y, ago }) {
  const shapes = [];
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const at = y(share * most);
    shapes.push(shape('line', { x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
    if (share === 0.25 || share === 0.75) continue;
    const place = { x: LEFT - 8, y: at + 4, 'text-anchor': 'end' };
    shapes.push(shape('text', place, formatQuantity(share * most, 'bit/s')));
  }
  for (const [seconds, anchor] of [
    [SECONDS, 'start'],
    [SECONDS / 2, 'middle'],
    [0, 'end'],
  ]) {
    const place = { x: x(ago(seconds)), y: height - 5, 'text-anchor': anchor };
    shapes.push(shape('text', place, seconds === 0 ? 'now' : `${seconds} s ago`));
  }
  return shapes;
}

/** The stretches without a gap. */
function runs(points, name) {
  const found = [];
  let run = null;
  for (const point of points) {
    if (point[name] === null) run = null;
    else if (run === null) found.push((run = [point]));
    else run.push(point);
  }
  return found;
}

/** 1, 2 or 5 times a power of ten, at least 1000. */
function niceLimit(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1000, value)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((limit) => limit >= value);
}

function shape(name, attributes, text = '') {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}
