/** Whether the packet filters of this host let the tunnel's datagrams pass. */
import { execFileSync } from 'node:child_process';
import { codeOf } from '../../errors.js';

import { error, note, ok, skipped } from '../finding.js';
import type { Finding } from '../finding.js';
import type { Observed } from '../observe.js';
import { peersOf } from '../peers-of.js';
import { parseIptables } from './iptables.js';
import { outcomeOf } from './model.js';
import type { Datagram, Outcome, Table } from './model.js';
import { parseNftables } from './nftables.js';

const ID = 'firewall';
const MOST_PEERS = 64;
const MOST_OUTPUT = 64 << 20; // bytes
const ANSWER_MS = 10_000;
const OUR_PATH = '/usr/sbin:/sbin';
/** What iptables makes in nftables, which its own program shows better. */
const OF_IPTABLES = ['ip filter', 'ip nat', 'ip mangle', 'ip raw', 'ip security'];

interface Filter {
  /** `iptables filter`, `nft inet fw` */
  readonly name: string;
  readonly table: Table;
}

export function checkFirewall(observed: Observed): Finding[] {
  const { external } = observed;
  if (external === null) return [skipped(ID, 'there is no interface to look at')];
  if (observed.underlay === 'ipv6') return [skipped(ID, 'rules about datagrams over IPv6 are not looked at')];
  const unseen: string[] = [];
  const filters = [...readIptables(unseen), ...readNftables(unseen)];
  const findings = new Map<string, Finding>();
  for (const datagram of datagrams(observed, external.name)) {
    for (const filter of filters) {
      for (const finding of judge(filter, datagram, observed)) findings.set(finding.found, finding);
    }
  }
  const missing = unseen.map((why) => skipped(ID, why));
  const { port } = observed;
  if (findings.size > 0) return [...findings.values(), ...missing];
  if (filters.length === 0 && missing.length > 0) return missing;
  return [ok(ID, `nothing stops UDP ${port}`), ...missing];
}

/** One in and one out for each of the other hosts, or for any where none is known. */
function datagrams(observed: Observed, name: string): Datagram[] {
  const here = observed.external?.address ?? null;
  const known = peersOf(observed).slice(0, MOST_PEERS);
  const peers = known.length > 0 ? known.map(({ attrs }) => attrs.publicIp) : [null];
  const { port } = observed;
  return peers.flatMap((peer) => [
    ...(['prerouting', 'input'] as const).map((hook) => ({
      hook,
      interface: name,
      source: peer,
      destination: here,
      port,
    })),
    ...(['output', 'postrouting'] as const).map((hook) => ({
      hook,
      interface: name,
      source: here,
      destination: peer,
      port,
    })),
  ]);
}

function judge({ name, table }: Filter, datagram: Datagram, { port }: Observed): Finding[] {
  return [...table.values()]
    .filter(({ hook }) => hook === datagram.hook)
    .flatMap((chain) => describe(name, outcomeOf(table, chain, datagram), datagram, port));
}

function describe(name: string, outcome: Outcome, { hook }: Datagram, port: number): Finding[] {
  if (outcome.verdict === 'accept') return [];
  const incoming = hook === 'input' || hook === 'prerouting';
  const why = incoming ? 'nothing from other hosts arrives' : 'nothing reaches other hosts';
  if (outcome.verdict === 'unknown') {
    const text = `${name}: whether chain ${outcome.chain.name} lets UDP ${port} pass depends on what cannot be told from its rules`;
    return [note(ID, text, why)];
  }
  const { rule, chain } = outcome;
  if (rule !== null) return [error(ID, `${name} drops UDP ${port}: ${rule.text}`, why, rule.remedy)];
  const remedy = name.startsWith('iptables ')
    ? `iptables -t ${name.slice('iptables '.length)} -I ${chain.name} -p udp --dport ${port} -j ACCEPT`
    : `nft insert rule ${name.slice('nft '.length)} ${chain.name} udp dport ${port} accept`;
  return [
    error(
      ID,
      `${name} drops UDP ${port}: the policy of ${chain.name}, which no rule lets it pass`,
      why,
      remedy,
    ),
  ];
}

function readIptables(unseen: string[]): Filter[] {
  const text = run('iptables-save', [], unseen);
  if (text === null) return [];
  return [...parseIptables(text)].map(([name, table]) => ({ name: `iptables ${name}`, table }));
}

function readNftables(unseen: string[]): Filter[] {
  const text = run('nft', ['-j', 'list', 'ruleset'], unseen);
  if (text === null || text.trim() === '') return [];
  const hasIptables = run('iptables-save', ['-V'], []) !== null;
  return [...parseNftables(text)]
    .filter(([name]) => !(hasIptables && OF_IPTABLES.includes(name)))
    .map(([name, table]) => ({ name: `nft ${name}`, table }));
}

/** Null where the program is not there, or may not look. */
function run(program: string, args: readonly string[], unseen: string[]): string | null {
  try {
    return execFileSync(program, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: MOST_OUTPUT,
      timeout: ANSWER_MS,
      env: { ...process.env, PATH: `${process.env.PATH ?? ''}:${OUR_PATH}` },
    });
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return null; // what has no program has hardly any rules
    const stderr = cause instanceof Error && 'stderr' in cause ? String(cause.stderr) : '';
    const reason = /\S.*/.exec(stderr)?.[0] ?? codeOf(cause) ?? 'it failed';
    unseen.push(`${program} cannot be asked (${reason}): run doctor as root`);
    return null;
  }
}
