import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { configureLog } from '../../src/log.js';
import { parseIptablesVersion } from '../../src/traffic/iptables.js';
import {
  describeDamage,
  isComplete,
  parseSaved,
  presenceOf,
  removalText,
  restoreText,
} from '../../src/traffic/iptables-save.js';
import { parseNftTable } from '../../src/traffic/nftables.js';
import { findProgram, ProgramError, runProgram } from '../../src/traffic/programs.js';
import { RepairLog } from '../../src/traffic/repair-log.js';
import { FORWARD_CHAIN, iptablesChains, MASQUERADE_CHAIN, nftChains } from '../../src/traffic/rules.js';
import type { ChainRules } from '../../src/traffic/rules.js';
import { readRulesetChange } from '../../src/traffic/ruleset-events.js';
import { expectedIptables } from '../lib/rules.js';

const FAMILY = { version: 4, network: '10.5.0.0/16', subnet: '10.5.72.0/24' } as const;
const ALL = { masquerade: true, forward: true, randomFully: true };

const JUMP = '-m comment --comment "flanneld forward" -j FLANNEL-FWD';
const FORWARD: ChainRules = {
  ...FORWARD_CHAIN,
  rules: ['-s 10.5.0.0/16 -j ACCEPT', '-d 10.5.0.0/16 -j ACCEPT'],
};

function saved(...lines: readonly string[]): string {
  return ['# comment', '*filter', ':FORWARD DROP [7:420]', ...lines, 'COMMIT', ''].join('\n');
}

function presence(...lines: readonly string[]): ReturnType<typeof presenceOf> {
  return presenceOf(parseSaved(saved(...lines)).get('filter'), FORWARD_CHAIN);
}

const WHOLE = [
  ':FLANNEL-FWD - [0:0]',
  `-A FORWARD ${JUMP}`,
  ...FORWARD.rules.map((rule) => `-A FLANNEL-FWD ${rule}`),
];

describe('rule lists', () => {
  test('of iptables: seven to masquerade and three to forward', () => {
    const lines = iptablesChains(FAMILY, ALL).flatMap(({ parent, chain, comment, rules }) => [
      `-A ${parent} -m comment --comment "${comment}" -j ${chain}`,
      ...rules.map((rule) => `-A ${chain} ${rule}`),
    ]);
    assert.deepEqual([...lines].sort(), [...expectedIptables('10.5.0.0/16', '10.5.72.0/24')].sort());
  });

  test('without a subnet of its own, a host has nothing to masquerade', () => {
    const family = { ...FAMILY, subnet: null };
    assert.deepEqual(
      iptablesChains(family, ALL).map(({ chain }) => chain),
      ['FLANNEL-FWD'],
    );
    assert.deepEqual(
      nftChains(family, ALL).map(({ name }) => name),
      ['forward'],
    );
  });

  test('of nftables for IPv6', () => {
    const family = { version: 6, network: 'fd00:5::/48', subnet: 'fd00:5:0:1::/64' } as const;
    const [postrtg] = nftChains(family, { ...ALL, randomFully: false });
    assert.equal(postrtg?.rules[4], 'ip6 saddr fd00:5::/48 ip6 daddr != ff00::/8 masquerade');
    assert.equal(postrtg.rules[3], 'ip6 saddr != fd00:5::/48 ip6 daddr fd00:5:0:1::/64 return');
  });
});

describe('what iptables-save shows', () => {
  test('tables in any order, with or without chains of ours', () => {
    const text = `*nat\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n${saved(...WHOLE)}`;
    const tables = parseSaved(text);
    assert.deepEqual([...tables.keys()], ['nat', 'filter']);
    assert.equal(presenceOf(tables.get('nat'), MASQUERADE_CHAIN).rules, null);
    assert.equal(presenceOf(tables.get('raw'), MASQUERADE_CHAIN).rules, null);
  });

  test('a whole one is left alone', () => {
    assert.ok(isComplete(presence(...WHOLE), FORWARD));
  });

  test('a jump whose comment is not quoted is one', () => {
    const bare = '-A FORWARD -m comment --comment flanneld -j FLANNEL-FWD';
    assert.equal(presence(...WHOLE.filter((line) => !line.includes(JUMP)), bare).jumps.length, 1);
  });

  const damages: [string, string[], RegExp][] = [
    [
      'no jump',
      WHOLE.filter((line) => !line.includes(JUMP)),
      /the jump from FORWARD to FLANNEL-FWD was missing/,
    ],
    ['two jumps', [...WHOLE, `-A FORWARD ${JUMP}`], /the rules of FLANNEL-FWD were changed/],
    ['a rule less', WHOLE.slice(0, -1), /1 of the 2 rules of FLANNEL-FWD was missing/],
    ['another order', [...WHOLE.slice(0, 2), ...WHOLE.slice(2).reverse()], /were changed/],
    ['a rule more', [...WHOLE, '-A FLANNEL-FWD -j DROP'], /were changed/],
    ['no chain', [], /chain FLANNEL-FWD was missing/],
  ];
  for (const [what, lines, words] of damages) {
    test(`${what} is seen`, () => {
      const found = presence(...lines);
      assert.equal(isComplete(found, FORWARD), false);
      assert.match(describeDamage(found, FORWARD), words);
    });
  }
});

describe('what iptables-restore is given', () => {
  const chain = ':FLANNEL-FWD - [0:0]\n';
  const rules = FORWARD.rules.map((rule) => `-A FLANNEL-FWD ${rule}\n`).join('');

  test('everything, where there is nothing', () => {
    const text = restoreText([[FORWARD, presence()]]);
    assert.equal(text, `*filter\n${chain}-A FORWARD ${JUMP}\n${rules}COMMIT\n`);
  });

  test('a jump that stands keeps its place, a second one goes, as do strays', () => {
    const stray = '-s 10.4.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT';
    const found = presence(...WHOLE, `-A FORWARD ${JUMP}`, `-A FORWARD ${stray}`);
    const text = restoreText([[FORWARD, found]]);
    assert.equal(text, `*filter\n${chain}-D FORWARD ${stray}\n-D FORWARD ${JUMP}\n${rules}COMMIT\n`);
  });

  test('to remove everything, the jump first', () => {
    const text = removalText([[FORWARD_CHAIN, presence(...WHOLE)]]);
    assert.equal(text, `*filter\n-D FORWARD ${JUMP}\n-F FLANNEL-FWD\n-X FLANNEL-FWD\nCOMMIT\n`);
  });

  test('a chain that somebody else uses is emptied, not deleted', () => {
    const text = removalText([[FORWARD_CHAIN, presence(...WHOLE, '-A FORWARD -i eth1 -j FLANNEL-FWD')]]);
    assert.equal(text, `*filter\n-D FORWARD ${JUMP}\n-F FLANNEL-FWD\nCOMMIT\n`);
  });
});

describe('versions of iptables', () => {
  const cases: [string, boolean, boolean][] = [
    ['iptables v1.8.9 (nf_tables)\n', true, true],
    ['iptables v1.8.9 (legacy)\n', true, false],
    ['iptables v1.6.2\n', true, false],
    ['iptables v1.6.1\n', false, false],
    ['iptables v1.10.0 (nf_tables)', true, true],
  ];
  for (const [text, since162, nft] of cases) {
    test(text.trim(), () => {
      assert.deepEqual(parseIptablesVersion(text), { since162, nft });
    });
  }

  test('none', () => {
    assert.throws(() => parseIptablesVersion('hello'), /iptables --version says "hello"/);
  });
});

describe('what nft shows', () => {
  const list = (handle: number, verdict: string) =>
    JSON.stringify({
      nftables: [
        { metainfo: { version: String(handle) } },
        { table: { family: 'ip', name: 'flannel-ipv4', handle } },
        { chain: { name: 'forward', handle } },
        { rule: { chain: 'forward', handle, expr: [{ [verdict]: null }] } },
      ],
    });

  test('is the same whoever made it', () => {
    const table = parseNftTable(list(1, 'accept'));
    assert.deepEqual([table.chains, table.ruleCount], [['forward'], 1]);
    assert.equal(table.digest, parseNftTable(list(9, 'accept')).digest);
    assert.notEqual(table.digest, parseNftTable(list(1, 'drop')).digest);
  });

  for (const text of ['', 'null', '{}', '{"nftables":7}', '{"nftables":[null]}']) {
    test(`${JSON.stringify(text)} is refused`, () => {
      assert.throws(() => parseNftTable(text), /nft printed something that is no list of a table/);
    });
  }
});

test('announcements of nf_tables', () => {
  // A rule deleted from FORWARD of `ip filter`: nlmsghdr, nfgenmsg, NFTA_RULE_TABLE, NFTA_RULE_CHAIN.
  const attribute = (type: number, text: string) => {
    const bytes = Buffer.alloc((4 + text.length + 1 + 3) & ~3);
    bytes.writeUInt16LE(4 + text.length + 1, 0);
    bytes.writeUInt16LE(type, 2);
    bytes.write(text, 4);
    return bytes;
  };
  const message = (type: number, ...attributes: readonly Buffer[]) => {
    const header = Buffer.alloc(20);
    header.writeUInt16LE(type, 4);
    header[16] = 2;
    return Buffer.concat([header, ...attributes]);
  };
  assert.deepEqual(readRulesetChange(message(0x0a08, attribute(1, 'filter'), attribute(2, 'FORWARD'))), {
    version: 4,
    table: 'filter',
    chain: 'FORWARD',
  });
  assert.deepEqual(readRulesetChange(message(0x0a02, attribute(1, 'nat'))), {
    version: 4,
    table: 'nat',
    chain: null,
  });
  assert.equal(readRulesetChange(message(0x0a0f)), null); // NFT_MSG_NEWGEN
  assert.equal(readRulesetChange(message(0x0108, attribute(1, 'filter'))), null); // conntrack
});

describe('programs', () => {
  test('are found beyond PATH', () => {
    assert.equal(findProgram('sh', '/nowhere:/bin'), '/bin/sh');
    assert.equal(findProgram('no-such-program'), null);
  });

  test('give their output, or their words', async () => {
    assert.equal(await runProgram('/bin/cat', [], 'text'), 'text');
    await assert.rejects(
      runProgram('/bin/sh', ['-c', 'echo "# remark" >&2; echo bad >&2; exit 4']),
      (error) => {
        return error instanceof ProgramError && error.message.endsWith(': bad');
      },
    );
  });
});

test('repairs beyond ten in a minute are told together', (t) => {
  const lines: string[] = [];
  configureLog({ v: 0, vmodule: '', logBacktraceAt: '', write: (line) => lines.push(line) });
  t.after(() => {
    configureLog({ v: 0, vmodule: '', logBacktraceAt: '' });
  });
  let now = 0;
  const repairs = new RepairLog(() => now);
  for (let i = 0; i < 25; i++) repairs.repaired(['a rule was missing']);
  assert.equal(lines.length, 10);
  now = 61_000;
  repairs.repaired(['a chain was missing']);
  assert.match(lines.at(-1) ?? '', /restored \(and 15 times since this was last said\): a chain was missing/);
  assert.equal(repairs.repairs, 26);
});
