/** Figures as a reader wants them, in the terminal and on the page, which loads this file as it is. */

const PREFIXES = ['', 'k', 'M', 'G', 'T', 'P'];

/** Three digits and a decimal prefix: `1.23 Gbit/s`, `0 B`. */
export function formatQuantity(value: number, unit: string): string {
  let [scaled, prefix] = [value, 0];
  while (scaled >= 999.5 && prefix < PREFIXES.length - 1) [scaled, prefix] = [scaled / 1000, prefix + 1];
  const digits = prefix === 0 || scaled >= 99.95 ? 0 : scaled >= 9.995 ? 1 : 2;
  return `${scaled.toFixed(digits)} ${PREFIXES[prefix] ?? ''}${unit}`.trimEnd();
}

/** The two largest units: `3 d 4 h`, `12 s`. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const parts: [number, string][] = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return '0 s';
  const shown = parts.slice(first, first + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(' ');
}

/** Milliseconds with three digits. */
export function formatRtt(ms: number): string {
  return `${ms.toFixed(ms < 0.9995 ? 3 : ms < 9.995 ? 2 : ms < 99.95 ? 1 : 0)} ms`;
}
