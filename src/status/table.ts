/** Text for terminals: widths, colours, columns. */

export type Style = 'bold' | 'dim' | 'green' | 'red' | 'yellow' | 'cyan';

const SGR: Readonly<Record<Style, number>> = { bold: 1, dim: 2, green: 32, red: 31, yellow: 33, cyan: 36 };

/** Puts text in a style, or leaves it as it is where there are no colours. */
export type Paint = (style: Style, text: string) => string;

export const plain: Paint = (_, text) => text;
export const coloured: Paint = (style, text) => `\x1b[${SGR[style]}m${text}\x1b[0m`;

/** Without anything that a terminal would act upon. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '�');
}

/** To `width` columns, with an ellipsis where something is cut off. Every character takes one column here. */
export function fit(text: string, width: number): string {
  const characters = Array.from(text);
  return characters.length <= width ? text : `${characters.slice(0, Math.max(0, width - 1)).join('')}…`;
}

/** Words on lines of `width` columns at most; a longer word is cut. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ').map((each) => fit(each, width))) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}

export interface Column<Row> {
  readonly title: string;
  readonly width: number;
  readonly align: 'left' | 'right';
  /** Those with the highest are left out first where the terminal is narrow. */
  readonly rank: number;
  readonly cell: (row: Row) => string;
  readonly style?: (row: Row) => Style | null;
}

const GAP = '  ';

/** The columns that fit into `width`. */
export function fitting<Row>(columns: readonly Column<Row>[], width: number): Column<Row>[] {
  const kept = [...columns];
  const total = () => kept.reduce((sum, column) => sum + column.width + GAP.length, -GAP.length);
  while (kept.length > 1 && total() > width) {
    const most = Math.max(...kept.map(({ rank }) => rank));
    kept.splice(
      kept.findIndex(({ rank }) => rank === most),
      1,
    );
  }
  return kept;
}

/** A line of titles, then one for each row. */
export function tableLines<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  paint: Paint,
): string[] {
  const line = (cells: readonly string[]) => cells.join(GAP).trimEnd();
  const head = line(columns.map(({ title, width, align }) => pad(title, width, align)));
  const body = rows.map((row) =>
    line(
      columns.map(({ width, align, cell, style }) => {
        const text = pad(fit(printable(cell(row)), width), width, align);
        const wanted = style?.(row) ?? null;
        return wanted === null ? text : paint(wanted, text);
      }),
    ),
  );
  return [paint('dim', head), ...body];
}

function pad(text: string, width: number, align: 'left' | 'right'): string {
  return align === 'left' ? text.padEnd(width) : text.padStart(width);
}

const BARS = '▁▂▃▄▅▆▇█';

/** The last `width` values, each as a bar in proportion to the greatest of them. */
export function sparkline(values: readonly number[], width: number): string {
  const shown = values.slice(-width);
  const most = Math.max(0, ...shown);
  const bar = (value: number) =>
    BARS.charAt(most === 0 ? 0 : Math.min(BARS.length - 1, Math.floor((value / most) * BARS.length)));
  return shown.map(bar).join('').padStart(width);
}
