import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseIptables } from '../../src/doctor/firewall/iptables.js';
import { outcomeOf } from '../../src/doctor/firewall/model.js';
import type { Datagram, Table } from '../../src/doctor/firewall/model.js';
import { parseNftables } from '../../src/doctor/firewall/nftables.js';

const INPUT: Datagram = {
  hook: 'input',
  interface: 'eth0',
  source: 0xc0a84d02, // 192.168.77.2
  destination: 0xc0a84d01,
  port: 8285,
};

function verdict(table: Table | undefined, name: string, datagram: Datagram): string {
  const chain = table?.get(name);
  assert.ok(table && chain);
  return outcomeOf(table, chain, datagram).verdict;
}

describe('a chain of iptables', () => {
  const cases: [string, string[], string][] = [
    ['accepts by its policy', [], 'accept'],
    ['drops by a rule', ['-p udp -m udp --dport 8285 -j DROP'], 'drop'],
    ['takes the first rule', ['-p udp -j ACCEPT', '-j DROP'], 'accept'],
    ['another port', ['-p udp -m udp --dport 53 -j DROP'], 'accept'],
    ['another protocol', ['-p tcp -m tcp --dport 8285 -j DROP'], 'accept'],
    ['a range', ['-p udp -m udp --dport 8000: -j REJECT --reject-with icmp-port-unreachable'], 'drop'],
    ['another interface', ['! -i eth+ -j DROP'], 'accept'],
    ['a source', ['-s 192.168.77.0/24 -j DROP'], 'drop'],
    ['no such source', ['! -s 192.168.77.0/24 -j DROP'], 'accept'],
    ['connections that exist', ['-m conntrack --ctstate RELATED,ESTABLISHED -j DROP'], 'accept'],
    ['a log first', ['-j LOG --log-prefix "-j ACCEPT"', '-j DROP'], 'drop'],
    ['a chain that returns', ['-j other', '-j DROP'], 'drop'],
    ['a rule that may match accepts', ['-m set --match-set friends src -j ACCEPT', '-j DROP'], 'unknown'],
    ['a rule that may match drops', ['-m limit --limit 1/sec -j DROP'], 'accept'],
  ];
  for (const [name, rules, expected] of cases) {
    test(name, () => {
      const lines = rules.map((rule) => `-A INPUT ${rule}`);
      const text = [
        '*filter',
        ':INPUT ACCEPT [0:0]',
        ':other - [0:0]',
        '-A other -p udp -j RETURN',
        ...lines,
        'COMMIT',
      ];
      assert.equal(verdict(parseIptables(text.join('\n')).get('filter'), 'INPUT', INPUT), expected);
    });
  }

  test('that goes round ends', () => {
    const text = '*filter\n:INPUT DROP [0:0]\n:a - [0:0]\n-A INPUT -j a\n-A a -j a\nCOMMIT';
    assert.equal(verdict(parseIptables(text).get('filter'), 'INPUT', INPUT), 'drop');
  });
});

describe('a chain of nftables', () => {
  const match = (left: object, right: unknown, op = '==') => ({ match: { op, left, right } });
  const port = { payload: { protocol: 'udp', field: 'dport' } };
  const source = { payload: { protocol: 'ip', field: 'saddr' } };
  const state = { ct: { key: 'state' } };
  const cases: [string, object[], string][] = [
    ['another port', [match(port, 53), { drop: null }], 'accept'],
    ['a set of ports', [match(port, { set: [53, { range: [8000, 9000] }] }), { drop: null }], 'drop'],
    ['a named set', [match(port, '@ports'), { drop: null }], 'accept'],
    ['a prefix', [match(source, { prefix: { addr: '192.168.77.0', len: 24 } }), { reject: null }], 'drop'],
    [
      'not that prefix',
      [match(source, { prefix: { addr: '10.0.0.0', len: 8 } }, '!='), { drop: null }],
      'drop',
    ],
    ['states', [match(state, ['established', 'related'], 'in'), { drop: null }], 'accept'],
    ['an interface by its beginning', [match({ meta: { key: 'iifname' } }, 'eth*'), { drop: null }], 'drop'],
  ];
  for (const [name, expr, expected] of cases) {
    test(name, () => {
      const entry = { family: 'inet', table: 'fw' };
      const document = {
        nftables: [
          { chain: { ...entry, name: 'in', hook: 'input', policy: 'accept' } },
          { rule: { ...entry, chain: 'in', handle: 7, expr } },
        ],
      };
      assert.equal(verdict(parseNftables(JSON.stringify(document)).get('inet fw'), 'in', INPUT), expected);
    });
  }
});
