/**
 * Renders a Helm chart by the part of Go's template language that ours uses: values by path, literals, `if`, `else`,
 * `end`, pipes into the functions below, and trimming with `-`. Anything else is an error, so that a template which
 * goes beyond cannot pass unseen. What Helm itself would say, only Helm can tell.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { canonicalJson } from '../../src/cni/delegate-conf.js';

type Values = Readonly<Record<string, unknown>>;
type Node = string | Action | Branch;

interface Action {
  readonly pipe: string;
}

interface Branch {
  readonly condition: string;
  readonly then: Node[];
  readonly otherwise: Node[];
}

const FUNCTIONS: Readonly<Record<string, (...args: readonly unknown[]) => unknown>> = {
  not: (value) => !isTrue(value),
  eq: (a, b) => a === b,
  quote: (value) => JSON.stringify(asText(value)),
  // Members in the order of their names, as Go writes a map.
  toJson: (value) => canonicalJson(value as Values),
  toYaml: (value) => stringify(value, { sortMapEntries: true }).trimEnd(),
  nindent: (width, text) => `\n${asText(text)}`.replaceAll('\n', `\n${' '.repeat(Number(width))}`),
};

/** All documents of a chart under a release of this namespace; `overrides` replaces values by path (a.b.c). */
export function renderChart(folder: string, namespace: string, overrides: Values = {}): unknown[] {
  const values = parse(readFileSync(join(folder, 'values.yaml'), 'utf8')) as Record<string, unknown>;
  for (const [path, value] of Object.entries(overrides)) override(values, path.split('.'), value);
  const scope = { Values: values, Release: { Namespace: namespace } };
  return readdirSync(join(folder, 'templates'))
    .sort()
    .flatMap((name) => render(readFileSync(join(folder, 'templates', name), 'utf8'), scope).split(/^---$/m))
    .map((text): unknown => parse(text));
}

/** One template's text. @throws Error for what the template must not hold. */
export function render(template: string, scope: Values): string {
  const tokens = template.split(/(\{\{.*?\}\})/s).map((token, i, all) => {
    if (token.startsWith('{{')) return token;
    const text = all[i - 1]?.endsWith('-}}') === true ? token.trimStart() : token;
    return all[i + 1]?.startsWith('{{-') === true ? text.trimEnd() : text;
  });
  const nodes = readNodes(tokens, 0);
  if (nodes.at < tokens.length) throw new Error(`${tokens[nodes.at] ?? ''} without an if`);
  return write(nodes.list, scope);
}

/** Up to the `else` or `end` that belongs to somebody further out, or to the end. */
function readNodes(tokens: readonly string[], from: number): { list: Node[]; at: number } {
  const list: Node[] = [];
  let at = from;
  while (at < tokens.length) {
    const token = tokens[at] ?? '';
    const action = /^\{\{-?\s*(.*?)\s*-?\}\}$/s.exec(token)?.[1];
    if (action === 'else' || action === 'end') return { list, at };
    at++;
    if (action === undefined) list.push(token);
    else if (action.startsWith('if ')) {
      const branch = readBranch(action.slice(3), tokens, at);
      list.push(branch.node);
      at = branch.at;
    } else list.push({ pipe: action });
  }
  return { list, at };
}

function readBranch(
  condition: string,
  tokens: readonly string[],
  from: number,
): { node: Branch; at: number } {
  const then = readNodes(tokens, from);
  const hasElse = tokens[then.at]?.includes('else') === true;
  const otherwise = hasElse ? readNodes(tokens, then.at + 1) : { list: [], at: then.at };
  if (!/\bend\b/.test(tokens[otherwise.at] ?? '')) throw new Error(`if ${condition} without an end`);
  return { node: { condition, then: then.list, otherwise: otherwise.list }, at: otherwise.at + 1 };
}

function write(nodes: readonly Node[], scope: Values): string {
  return nodes
    .map((node) => {
      if (typeof node === 'string') return node;
      if ('pipe' in node) return asText(evaluate(node.pipe, scope));
      return write(isTrue(evaluate(node.condition, scope)) ? node.then : node.otherwise, scope);
    })
    .join('');
}

function evaluate(pipe: string, scope: Values): unknown {
  let piped: unknown[] = [];
  for (const command of pipe.split('|')) {
    const [head = '', ...words] = command.trim().match(/"[^"]*"|\S+/g) ?? [];
    const args = words.map((word) => operand(word, scope));
    const call = FUNCTIONS[head];
    if (call === undefined && args.length + piped.length > 0) throw new Error(`there is no function ${head}`);
    piped = [call === undefined ? operand(head, scope) : call(...args, ...piped)];
  }
  return piped[0];
}

function operand(word: string, scope: Values): unknown {
  if (/^(?:"[^"]*"|\d+)$/.test(word)) return JSON.parse(word);
  if (!/^(?:\.\w+)+$/.test(word)) throw new Error(`${word} is neither a value nor a literal`);
  return word
    .slice(1)
    .split('.')
    .reduce<unknown>((value, name) => {
      if (typeof value === 'object' && value !== null && name in value) return (value as Values)[name];
      throw new Error(`there is no value ${word}`);
    }, scope);
}

/** As Go's templates see it. */
function isTrue(value: unknown): boolean {
  if (typeof value === 'object' && value !== null) return Object.keys(value).length > 0;
  return Boolean(value);
}

function asText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function override(
  values: Record<string, unknown>,
  [name = '', ...rest]: readonly string[],
  value: unknown,
): void {
  if (!(name in values)) throw new Error(`the chart has no value ${name}`);
  if (rest.length === 0) values[name] = value;
  else override(values[name] as Record<string, unknown>, rest, value);
}
