/** Reads what `nft -j list ruleset` prints (libnftables-json(5)). */
import { Cidr4, parseIp4 } from '../../ip.js';
import type { Ip4 } from '../../ip.js';
import { not } from './model.js';
import type { Chain, Datagram, Match, Rule, Table, Target } from './model.js';

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
type JsonObject = Readonly<Record<string, Json>>;

const FAMILIES = ['ip', 'inet'];

/** Tables by `family name`, of the families that IPv4 meets. @throws SyntaxError for what is no JSON. */
export function parseNftables(text: string): Map<string, Table> {
  const document = objectOf(JSON.parse(text) as Json);
  const tables = new Map<string, Map<string, Chain>>();
  for (const entry of listOf(document.nftables)) {
    const chain = objectOf(objectOf(entry).chain);
    const rule = objectOf(objectOf(entry).rule);
    const { family, table, name } = Object.keys(chain).length > 0 ? chain : rule;
    if (!FAMILIES.includes(textOf(family))) continue;
    const key = `${textOf(family)} ${textOf(table)}`;
    const chains = tables.get(key) ?? new Map<string, Chain>();
    tables.set(key, chains);
    if (name !== undefined) chains.set(textOf(name), readChain(chain));
    else chains.get(textOf(rule.chain))?.rules.push(readRule(key, rule));
  }
  return tables;
}

function readChain(chain: JsonObject): Chain {
  const hook = typeof chain.hook === 'string' ? chain.hook : null;
  const policy = chain.policy === 'drop' ? 'drop' : 'accept';
  return { name: textOf(chain.name), hook, policy, rules: [] };
}

function readRule(table: string, rule: JsonObject): Rule {
  const matches: Match[] = [];
  let target: Target = { kind: 'continue' };
  const expressions = listOf(rule.expr).map(objectOf);
  for (const expression of expressions) {
    const [kind = ''] = Object.keys(expression);
    const found = readTarget(kind, objectOf(expression[kind]));
    if (found !== null) target = found;
    else if (kind === 'match') matches.push(readMatch(objectOf(expression.match)));
    else if (!['counter', 'comment', 'log', 'mangle', 'notrack'].includes(kind)) matches.push(() => null);
  }
  // A map of verdicts may hold any.
  if (expressions.some((expression) => 'vmap' in expression)) target = { kind: 'accept' };
  const handle = `${table} ${textOf(rule.chain)} handle ${textOf(rule.handle)}`;
  const text = `nft rule ${handle}: ${JSON.stringify(rule.expr)}`;
  return { matches, target, text, remedy: `nft delete rule ${handle}` };
}

function readTarget(kind: string, value: JsonObject): Target | null {
  switch (kind) {
    case 'accept':
    case 'return':
    case 'drop':
      return { kind };
    case 'reject':
      return { kind: 'drop' };
    case 'jump':
    case 'goto':
      return { kind, chain: textOf(value.target) };
    default:
      return null;
  }
}

function readMatch({ op, left, right }: JsonObject): Match {
  const compare = comparisonOf(objectOf(left));
  const is: Match = (datagram) => compare(right ?? null, datagram);
  if (op === '!=') return not(is);
  return op === '==' || op === 'in' ? is : () => null;
}

type Comparison = (right: Json, datagram: Datagram) => boolean | null;

function comparisonOf(left: JsonObject): Comparison {
  const payload = objectOf(left.payload);
  const meta = textOf(objectOf(left.meta).key);
  const field = [textOf(payload.protocol), textOf(payload.field)].join(' ').trim();
  switch (field || meta || (objectOf(left.ct).key === 'state' ? 'ct state' : '')) {
    case 'udp dport':
    case 'th dport':
      return (right, { port }) => among(right, (value) => value === port, port);
    case 'tcp dport':
    case 'tcp sport':
      return () => false;
    case 'ip saddr':
      return (right, { source }) => amongAddresses(right, source);
    case 'ip daddr':
      return (right, { destination }) => amongAddresses(right, destination);
    case 'ip protocol':
    case 'l4proto':
      return (right) => among(right, (value) => value === 'udp' || value === 17, 17);
    case 'nfproto':
      return (right) => among(right, (value) => value === 'ipv4' || value === 2, null);
    case 'iifname':
    case 'iif':
      return (right, { hook, interface: name }) =>
        hook === 'input' || hook === 'prerouting' ? amongNames(right, name) : false;
    case 'oifname':
    case 'oif':
      return (right, { hook, interface: name }) =>
        hook === 'output' || hook === 'postrouting' ? amongNames(right, name) : false;
    case 'ct state':
      return (right) => among(right, (value) => value === 'new', null);
    default:
      return () => null;
  }
}

/** Whether a value, a set or a range holds what `is` is true for, or the number. */
function among(right: Json, is: (value: Json) => boolean, number: number | null): boolean | null {
  if (typeof right === 'string' && right.startsWith('@')) return null; // a named set
  if (isObject(right) && 'set' in right) return any(listOf(right.set), (value) => among(value, is, number));
  if (Array.isArray(right)) return any(right as readonly Json[], (value) => among(value, is, number));
  if (isObject(right) && 'range' in right) {
    const [first, last] = listOf(right.range);
    if (typeof first !== 'number' || typeof last !== 'number' || number === null) return null;
    return number >= first && number <= last;
  }
  return isObject(right) ? null : is(right);
}

function amongNames(right: Json, name: string): boolean | null {
  const is = (value: Json) =>
    typeof value === 'string' && (value.endsWith('*') ? name.startsWith(value.slice(0, -1)) : value === name);
  return among(right, is, null);
}

function amongAddresses(right: Json, ip: Ip4 | null): boolean | null {
  if (ip === null) return null;
  if (isObject(right) && 'set' in right) return any(listOf(right.set), (value) => amongAddresses(value, ip));
  if (isObject(right) && 'prefix' in right) {
    const { addr, len } = objectOf(right.prefix);
    return Cidr4.parse(`${textOf(addr)}/${textOf(len)}`)?.contains(ip) ?? null;
  }
  const range = isObject(right) ? listOf(right.range).map((bound) => parseIp4(textOf(bound))) : [];
  const [first, last] = range;
  if (first !== undefined && last !== undefined) return ip >= first && ip <= last;
  return typeof right === 'string' && !right.startsWith('@') ? parseIp4(right) === ip : null;
}

function any<T>(values: readonly T[], test: (value: T) => boolean | null): boolean | null {
  const results = values.map(test);
  if (results.includes(true)) return true;
  return results.includes(null) ? null : false;
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function objectOf(value: Json | undefined): JsonObject {
  return isObject(value) ? value : {};
}

function listOf(value: Json | undefined): readonly Json[] {
  return Array.isArray(value) ? (value as readonly Json[]) : [];
}

function textOf(value: Json | undefined): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
}
