/** What a terminal shows, as HTML: the styles that src/status/table.ts writes. */

const STYLES: Readonly<Record<string, string>> = {
  '1': 'font-weight:bold',
  '2': 'opacity:.65',
  '31': 'color:#ff8a80',
  '32': 'color:#65d38b',
  '33': 'color:#ffd479',
  '36': 'color:#6cd4e0',
};

/** A page of its own around the lines of one frame. */
export function terminalPage(frame: string): string {
  const escaped = frame.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`);
  // eslint-disable-next-line no-control-regex -- that is what is looked for
  const body = escaped.replace(/\x1b\[(\d*)([mKJ])/g, (_, code: string, kind: string) => {
    if (kind !== 'm') return '';
    const style = STYLES[code];
    return style === undefined ? '</span>' : `<span style="${style}">`;
  });
  return (
    '<!doctype html><meta charset="utf-8"><body style="margin:0;background:#14181d;display:inline-block">' +
    `<pre style="margin:0;padding:16px 20px;color:#e8ebef;font:14px/1.35 'DejaVu Sans Mono',monospace">${body}</pre>`
  );
}
