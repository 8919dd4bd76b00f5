/** Reads what iptables-save(8) prints. */
import { Cidr4, parseIp4 } from '../../ip.js';
import type { Ip4 } from '../../ip.js';
import { not } from './model.js';
import type { Chain, Match, Rule, Table, Target } from './model.js';

/** Tables by name. */
export function parseIptables(text: string): Map<string, Table> {
  const tables = new Map<string, Map<string, Chain>>();
  let name = '';
  let table = new Map<string, Chain>();
  for (const line of text.split('\n')) {
    const [, chain, policy] = /^:(\S+) (\S+)/.exec(line) ?? [];
    if (line.startsWith('*')) {
      name = line.slice(1).trim();
      table = new Map();
      tables.set(name, table);
    } else if (chain !== undefined) {
      const builtIn = policy !== '-';
      const hook = builtIn ? chain.toLowerCase() : null;
      table.set(chain, { name: chain, hook, policy: policy === 'DROP' ? 'drop' : 'accept', rules: [] });
    } else if (line.startsWith('-A ')) {
      const [owner = '', ...words] = split(line.slice(3));
      table.get(owner)?.rules.push(readRule(line, `iptables -t ${name} -D ${line.slice(3)}`, words));
    }
  }
  return tables;
}

/** Words, of which some are in double quotes. */
function split(text: string): string[] {
  return [...text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');
}

const unknown: Match = () => null;
const always: Match = () => true;

function readRule(text: string, remedy: string, words: readonly string[]): Rule {
  const matches: Match[] = [];
  let target: Target = { kind: 'continue' };
  let inverted = false;
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '!') {
      inverted = true;
      continue;
    }
    if (word === '-j' || word === '-g') {
      target = readTarget(word, rest.shift() ?? '');
      break; // what follows is the target's own
    }
    const match = word === '-m' ? skip(rest) : readMatch(word, valueOf(rest));
    matches.push(inverted ? not(match) : match);
    inverted = false;
  }
  return { matches, target, text, remedy };
}

/** Names the extension that the following options are of. */
function skip(rest: string[]): Match {
  rest.shift();
  return always;
}

/** An option without a value is followed by another one, or by nothing. */
function valueOf(rest: string[]): string {
  const [next] = rest;
  return next === undefined || next.startsWith('-') || next === '!' ? '' : (rest.shift() ?? '');
}

function readTarget(option: string, name: string): Target {
  switch (name) {
    case 'ACCEPT':
      return { kind: 'accept' };
    case 'DROP':
    case 'REJECT':
      return { kind: 'drop' };
    case 'RETURN':
      return { kind: 'return' };
    default:
      // Extensions in capitals, such as LOG and MARK, let a packet go on.
      if (/^[A-Z]+$/.test(name) && !name.includes('-')) return { kind: 'continue' };
      return { kind: option === '-g' ? 'goto' : 'jump', chain: name };
  }
}

function readMatch(option: string, value: string): Match {
  switch (option) {
    case '-p':
      return () => ['udp', '17', 'all', '0'].includes(value);
    case '-i':
      return ({ hook, interface: name }) => isIn(hook) && isNamed(value, name);
    case '-o':
      return ({ hook, interface: name }) => !isIn(hook) && isNamed(value, name);
    case '-s':
      return ({ source }) => covers(value, source);
    case '-d':
      return ({ destination }) => covers(value, destination);
    case '--dport':
    case '--dports':
      return ({ port }) => value.split(',').some((range) => includes(range, port));
    case '--ctstate':
    case '--state':
      return () => value.split(',').includes('NEW');
    case '--dst-type':
      return ({ hook }) => (value === 'LOCAL' ? isIn(hook) : null);
    case '--comment':
      return always;
    default:
      return unknown;
  }
}

function isIn(hook: string): boolean {
  return hook === 'input' || hook === 'prerouting';
}

/** A trailing plus stands for any ending. */
function isNamed(pattern: string, name: string): boolean {
  return pattern.endsWith('+') ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}

function covers(text: string, ip: Ip4 | null): boolean | null {
  const single = parseIp4(text);
  const cidr = single === undefined ? Cidr4.parse(text) : new Cidr4(single, 32);
  if (cidr === undefined) return null;
  if (cidr.length === 0) return true;
  return ip === null ? null : cidr.contains(ip);
}

function includes(range: string, port: number): boolean {
  const [first = '', last = first] = range.split(':');
  return port >= Number(first || 0) && port <= Number(last || 65535);
}
