/** The findings as text for people and as JSON for programs, and the exit status. */
import type { Finding, Status } from './finding.js';

/** 1 and 2 keep the meaning they have for flanneld: it failed itself, its command line cannot be used. */
const EXIT = { healthy: 0, warning: 3, error: 4 } as const;

const WIDTH = 100;
const INDENT = 26;

export function exitStatus(findings: readonly Finding[]): number {
  if (findings.some(({ status }) => status === 'error')) return EXIT.error;
  return findings.some(({ status }) => status === 'warning') ? EXIT.warning : EXIT.healthy;
}

export function formatJson(findings: readonly Finding[]): string {
  return `${JSON.stringify({ checks: findings }, null, 2)}\n`;
}

/** A block a finding, then one line that sums up. */
export function formatText(findings: readonly Finding[]): string {
  return [...findings.map(block), '', summary(findings), ''].join('\n');
}

function block({ id, status, found, why, remedy }: Finding): string {
  const head = (status === 'ok' ? '' : status.toUpperCase()).padEnd(9) + id.padEnd(INDENT - 9);
  const rest = [why && `why:  ${why}`, remedy && `mend: ${remedy}`].filter((text) => text !== null);
  return [head + wrap(found, 0), ...rest.map((text) => ' '.repeat(INDENT) + wrap(text, 6))].join('\n');
}

/** Breaks between words; what follows the first line is indented by `hang` more. */
function wrap(text: string, hang: number): string {
  let line = '';
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const room = WIDTH - INDENT - (lines.length > 0 ? hang : 0);
    if (line !== '' && line.length + 1 + word.length > room) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line].join(`\n${' '.repeat(INDENT + hang)}`);
}

function summary(findings: readonly Finding[]): string {
  const count = (status: Status) => findings.filter((finding) => finding.status === status).length;
  const plural = (n: number, word: string) => `${n} ${word}${n === 1 ? '' : 's'}`;
  const parts = [
    plural(count('error'), 'error'),
    plural(count('warning'), 'warning'),
    plural(count('note'), 'note'),
    `${count('skipped')} not seen`,
    `${count('ok')} fine`,
  ];
  const verdict = { 0: 'healthy', 3: 'not at its best', 4: 'not working' }[exitStatus(findings)] ?? '';
  return `${verdict}: ${parts.join(', ')}`;
}
