/** Which interface is taken, under which addresses: by real links, addresses and routes, rule by rule. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { describeAddress, followInterface, selectInterface } from '../../src/iface.js';
import type { ExternalInterface, InterfaceChoice, Stack } from '../../src/iface.js';
import { surveyHost, watchedBy } from '../../src/iface/survey.js';
import { Cidr4, formatIp4 } from '../../src/ip.js';
import { NetworkMonitor } from '../../src/netlink/monitor.js';
import { NO_CHOICE } from '../lib/host-network.js';
import { captureLog } from '../lib/store.js';

const V4: Stack = { enableIPv4: true, enableIPv6: false };
const V6: Stack = { enableIPv4: false, enableIPv6: true };
const DUAL: Stack = { enableIPv4: true, enableIPv6: true };

/** Links of both ends of a cable, in this process's own namespace, which is the lab's. */
const cable = (name: string, ...options: readonly string[]) => [
  `link add ${name} ${options.join(' ')} type veth peer name ${name}-far`,
  `link set ${name} up`,
  `link set ${name}-far up`,
];
const LINKS = ['eth0', 'eth1', 'wg0'];
const TWO = [
  ...cable('eth0'),
  ...cable('eth1', 'mtu', '1400'),
  'address add 192.168.77.1/24 dev eth0',
  'address add 192.168.78.1/24 dev eth1',
  'address add fd77::1/64 dev eth0 nodad',
  'address add fd78::1/64 dev eth1 nodad',
];
const DEFAULT = ['route add default via 192.168.77.254', 'route add default via fd77::254'];

function ip(lines: readonly string[]): void {
  const { status, stderr } = spawnSync('ip', ['-batch', '-'], { input: lines.join('\n'), encoding: 'utf8' });
  assert.equal(status, 0, `${stderr}\n${lines.join('\n')}`);
}

function select(given: Partial<InterfaceChoice>, stack: Stack): ExternalInterface {
  const choice = { ...NO_CHOICE, ...given };
  return selectInterface(choice, surveyHost(choice, stack), stack);
}

/** `name addresses public-addresses mtu`, or why there is none. */
function told(found: () => ExternalInterface): string {
  try {
    const external = found();
    const { name, mtu, publicIp, publicIpV6 } = external;
    const announced = [publicIp === null ? [] : formatIp4(publicIp), publicIpV6 ?? []].flat().join(' and ');
    return `${name} ${describeAddress(external)} ${announced} ${mtu}`;
  } catch (error) {
    return (error as Error).message;
  }
}

let lines: string[];
beforeEach(() => {
  lines = captureLog();
});
afterEach(() => {
  for (const name of LINKS) spawnSync('ip', ['link', 'delete', name]);
  for (const type of ['unreachable', 'prohibit']) spawnSync('ip', ['route', 'flush', 'type', type]);
});

interface Case {
  readonly host: readonly string[];
  readonly choice?: Partial<InterfaceChoice>;
  readonly stack?: Stack;
  readonly expected: string | RegExp;
}

function table(cases: Readonly<Record<string, Case>>): void {
  for (const [name, { host, choice = {}, stack = V4, expected }] of Object.entries(cases)) {
    test(name, () => {
      ip(host);
      const result = told(() => select(choice, stack));
      if (typeof expected === 'string') assert.equal(result, expected, lines.join('\n'));
      else assert.match(result, expected);
    });
  }
}

describe('the default route', () => {
  table({
    'names the interface': { host: [...TWO, ...DEFAULT], expected: 'eth0 192.168.77.1 192.168.77.1 1500' },
    'of several the one with the least metric counts': {
      host: [
        ...TWO,
        'route add default via 192.168.77.254 metric 200',
        'route add default via 192.168.78.254 metric 100',
      ],
      expected: 'eth1 192.168.78.1 192.168.78.1 1400',
    },
    'of another table does not count': {
      host: [...TWO, 'route add default via 192.168.77.254 table 77'],
      expected: /^unable to find default route: choose the interface with --iface; there is lo:\[/,
    },
    'that refuses does not count': {
      host: [
        ...TWO,
        'route add unreachable default metric 1',
        'route add default via 192.168.78.254 metric 9',
      ],
      expected: 'eth1 192.168.78.1 192.168.78.1 1400',
    },
    'through several interfaces is an error': {
      host: [
        ...TWO,
        'route add default nexthop via 192.168.77.254 dev eth0 nexthop via 192.168.78.254 dev eth1',
      ],
      expected:
        /^found default route but could not determine its interface .*: choose one with --iface; there is lo:/,
    },
    'of IPv6': { host: [...TWO, ...DEFAULT], stack: V6, expected: 'eth0 fd77::1 fd77::1 1500' },
    'of IPv6, by metric': {
      host: [
        ...TWO,
        'route add default via fd77::254 metric 200',
        'route add default via fd78::254 metric 100',
      ],
      stack: V6,
      expected: 'eth1 fd78::1 fd78::1 1400',
    },
    'of both': {
      host: [...TWO, ...DEFAULT],
      stack: DUAL,
      expected: 'eth0 192.168.77.1 and fd77::1 192.168.77.1 and fd77::1 1500',
    },
    'of both has to be one interface': {
      host: [...TWO, 'route add default via 192.168.77.254', 'route add default via fd78::254'],
      stack: DUAL,
      expected: /^v6 default route interface eth1 must be the same with v4 default route interface eth0/,
    },
    'of IPv6 that is missing': {
      host: [...TWO, 'route add default via 192.168.77.254'],
      stack: DUAL,
      expected:
        /^unable to find default v6 route: .* there is lo:\[127\.0\.0\.1 \(loopback\) ::1 \(loopback\)\], .*fd77::1/,
    },
  });
});

describe('of the addresses of an interface', () => {
  const only = (...addresses: readonly string[]) => [
    ...cable('eth0'),
    ...addresses.map((address) => `address add ${address} dev eth0`),
  ];
  const eth0 = { iface: ['eth0'] };
  const noLinkLocal = 'link set eth0 addrgenmode none';
  table({
    'a global one is taken before a link-local one': {
      host: only('169.254.1.1/16 scope link', '10.0.0.1/24'),
      choice: eth0,
      expected: 'eth0 10.0.0.1 10.0.0.1 1500',
    },
    'a link-local one is taken where there is no other': {
      host: only('169.254.1.1/16 scope link'),
      choice: eth0,
      expected: 'eth0 169.254.1.1 169.254.1.1 1500',
    },
    'a permanent one is taken before a dynamic one': {
      host: only('10.1.0.1/24 valid_lft 3600 preferred_lft 3600', '10.2.0.1/24'),
      choice: eth0,
      expected: 'eth0 10.2.0.1 10.2.0.1 1500',
    },
    'a deprecated one is never taken': {
      host: only(
        '10.1.0.1/24 valid_lft 3600 preferred_lft 0',
        '10.2.0.1/24 valid_lft 3600 preferred_lft 3600',
      ),
      choice: eth0,
      expected: 'eth0 10.2.0.1 10.2.0.1 1500',
    },
    'a deprecated one alone is none, and the error says why': {
      host: only('10.1.0.1/24 valid_lft 3600 preferred_lft 0'),
      choice: eth0,
      expected:
        /^Failed to find interface to use .*\(--iface=eth0: interface eth0 has no usable IPv4 address \(10\.1\.0\.1 \(deprecated\)\): give it one or choose another\); there is lo:.*eth0:\[10\.1\.0\.1 \(deprecated\)\]/,
    },
    'one of another scope is never taken': {
      host: only('10.1.0.1/24 scope host', '127.9.9.9/24 scope global'),
      choice: eth0,
      expected: /10\.1\.0\.1 \(scope 254, neither global nor link\)/,
    },
    'the first of the kernel is taken among equals': {
      host: only('10.1.0.1/24', '10.2.0.1/24'),
      choice: eth0,
      expected: 'eth0 10.1.0.1 10.1.0.1 1500',
    },
    'of IPv6 a global one is taken before a link-local one': {
      host: only('fd00::1/64 nodad'),
      choice: eth0,
      stack: V6,
      expected: 'eth0 fd00::1 fd00::1 1500',
    },
    'of IPv6 a link-local one is taken where there is no other': {
      host: only(),
      choice: eth0,
      stack: V6,
      expected: /^eth0 fe80::[\da-f:]+ fe80::[\da-f:]+ 1500$/,
    },
    'of IPv6 a permanent one is taken before a dynamic one': {
      host: only('fd00::1/64 nodad', 'fd00::2/64 nodad valid_lft 3600 preferred_lft 3600'),
      choice: eth0,
      stack: V6,
      expected: 'eth0 fd00::1 fd00::1 1500',
    },
    'of IPv6 a deprecated one is never taken': {
      host: only(
        'fd00::1/64 nodad valid_lft 3600 preferred_lft 0',
        'fd00::2/64 nodad valid_lft 3600 preferred_lft 3600',
      ),
      choice: eth0,
      stack: V6,
      expected: 'eth0 fd00::2 fd00::2 1500',
    },
    'of IPv6 none at all': {
      host: [cable('eth0')[0] ?? '', noLinkLocal, 'link set eth0 up'],
      choice: eth0,
      stack: V6,
      expected: /--iface=eth0: interface eth0 has no usable IPv6 address: give it one or choose another\)/,
    },
  });

  test('of IPv6 a temporary one is taken last', () => {
    ip(cable('eth0'));
    writeFileSync('/proc/sys/net/ipv6/conf/eth0/use_tempaddr', '2');
    ip(['address add fd00::1/64 dev eth0 nodad valid_lft 3600 preferred_lft 3600 mngtmpaddr']);
    const { v6 } = surveyHost(NO_CHOICE, V6);
    const temporary = v6?.addresses.filter(({ scope, flags }) => scope === 0 && (flags & 1) !== 0);
    assert.equal(temporary?.length, 1);
    assert.equal(
      told(() => select(eth0, V6)),
      'eth0 fd00::1 fd00::1 1500',
    );
  });
});

describe('--iface', () => {
  table({
    'by name, the first that exists': {
      host: [...TWO, ...DEFAULT],
      choice: { iface: ['eth7', 'eth1', 'eth0'] },
      expected: 'eth1 192.168.78.1 192.168.78.1 1400',
    },
    'by address': {
      host: [...TWO, ...DEFAULT],
      choice: { iface: ['192.168.78.1'] },
      expected: 'eth1 192.168.78.1 192.168.78.1 1400',
    },
    'by a deprecated address': {
      host: [...TWO, 'address add 10.0.0.1/24 dev eth1 valid_lft 3600 preferred_lft 0'],
      choice: { iface: ['10.0.0.1'] },
      expected: 'eth1 10.0.0.1 10.0.0.1 1400',
    },
    'by IPv6 address': {
      host: TWO,
      choice: { iface: ['fd78:0::1'] },
      stack: V6,
      expected: 'eth1 fd78::1 fd78::1 1400',
    },
    'by an address of the family that is off': {
      host: TWO,
      choice: { iface: ['fd78::1'] },
      expected: /error looking up interface fd78::1: no interface with given IP found/,
    },
    'dual, by IPv4 address: any IPv6 address of the same interface': {
      host: TWO,
      choice: { iface: ['192.168.78.1'] },
      stack: DUAL,
      expected: 'eth1 192.168.78.1 and fd78::1 192.168.78.1 and fd78::1 1400',
    },
    'dual, by IPv4 address: the public IPv6 address of the same interface': {
      host: [...TWO, 'address add fd78::9/64 dev eth1 nodad'],
      choice: { iface: ['192.168.78.1'], publicIpv6: 'fd78::1' },
      stack: DUAL,
      expected: 'eth1 192.168.78.1 and fd78::1 192.168.78.1 and fd78::1 1400',
    },
    'dual, by IPv4 address: a public IPv6 address of another interface is refused': {
      host: TWO,
      choice: { iface: ['192.168.78.1'], publicIpv6: 'fd77::1' },
      stack: DUAL,
      expected:
        /public address of the other family is on eth0, but 192\.168\.78\.1 on eth1: give both to one/,
    },
    'dual, by IPv4 address: a public IPv6 address of nobody is announced': {
      host: TWO,
      choice: { iface: ['192.168.78.1'], publicIpv6: '2001:db8::7' },
      stack: DUAL,
      expected: 'eth1 192.168.78.1 and fd78::1 192.168.78.1 and 2001:db8::7 1400',
    },
    'dual, by IPv6 address alone': {
      host: TWO,
      choice: { iface: ['fd78::1'] },
      stack: DUAL,
      expected: 'eth1 192.168.78.1 and fd78::1 192.168.78.1 and fd78::1 1400',
    },
    'that fits nothing says why, one by one': {
      host: TWO,
      choice: { iface: ['eth7', '10.9.9.9'], ifaceRegex: ['^wg'], ifaceCanReach: '192.168.77.1' },
      expected:
        /^Failed to find interface to use that matches the interfaces and\/or regexes provided \(--iface=eth7: error looking up interface eth7: no such interface; --iface=10\.9\.9\.9: .*no interface with given IP found; --iface-regex=\^wg: could not match pattern .*; --iface-can-reach=192\.168\.77\.1: .*it is an address of this host; name one beyond it\); there is lo:/,
    },
  });
});

describe('--iface-regex', () => {
  table({
    'by address before by name': {
      host: TWO,
      choice: { ifaceRegex: ['eth0|192\\.168\\.78'] },
      expected: 'eth1 192.168.78.1 192.168.78.1 1400',
    },
    'by name, unanchored, in the order of the kernel': {
      host: TWO,
      choice: { ifaceRegex: ['th[01]$'] },
      expected: 'eth0 192.168.77.1 192.168.77.1 1500',
    },
    'takes the matching one of several addresses': {
      host: [...TWO, 'address add 10.7.0.1/24 dev eth1'],
      choice: { ifaceRegex: ['^10\\.7\\.'] },
      expected: 'eth1 10.7.0.1 10.7.0.1 1400',
    },
    'after every --iface': {
      host: TWO,
      choice: { ifaceRegex: ['eth0'], iface: ['eth1'] },
      expected: 'eth1 192.168.78.1 192.168.78.1 1400',
    },
    'one after the other': {
      host: TWO,
      choice: { ifaceRegex: ['^wg', '(?i)^ETH1'] },
      expected: 'eth1 192.168.78.1 192.168.78.1 1400',
    },
    'leaves out an interface without an address': {
      host: [...cable('wg0'), ...TWO],
      choice: { ifaceRegex: ['^(wg|eth)'] },
      expected: 'eth0 192.168.77.1 192.168.77.1 1500',
    },
    'dual, an address of each family on one interface': {
      host: TWO,
      choice: { ifaceRegex: ['\\.78\\.1$|^fd78:'] },
      stack: DUAL,
      expected: 'eth1 192.168.78.1 and fd78::1 192.168.78.1 and fd78::1 1400',
    },
    'dual, an address of one family is not enough': {
      host: TWO,
      choice: { ifaceRegex: ['^fd78:'] },
      stack: DUAL,
      expected: /could not match pattern \^fd78: to any of the available network interfaces/,
    },
    'of IPv6': {
      host: TWO,
      choice: { ifaceRegex: ['^fd78:'] },
      stack: V6,
      expected: 'eth1 fd78::1 fd78::1 1400',
    },
    'that matches what cannot be used says so': {
      host: [...TWO, ...cable('wg0')],
      choice: { ifaceRegex: ['^wg0$'] },
      expected: /could not match pattern .*; interface wg0 has no usable IPv4 address/,
    },
  });
});

describe('--iface-can-reach', () => {
  const routes = ['route add 10.9.0.0/16 via 192.168.78.254', 'route add fd09::/64 via fd78::254'];
  table({
    'takes the way of the kernel': {
      host: [...TWO, ...DEFAULT, ...routes],
      choice: { ifaceCanReach: '10.9.0.1' },
      expected: 'eth1 192.168.78.1 192.168.78.1 1400',
    },
    'by the default route as well': {
      host: [...TWO, ...DEFAULT, ...routes],
      choice: { ifaceCanReach: '8.8.8.8' },
      expected: 'eth0 192.168.77.1 192.168.77.1 1500',
    },
    'from the address that the route prefers': {
      host: [
        ...TWO,
        'address add 192.168.78.5/24 dev eth1',
        'route add 10.9.0.0/16 via 192.168.78.254 src 192.168.78.5',
      ],
      choice: { ifaceCanReach: '10.9.0.1' },
      expected: 'eth1 192.168.78.5 192.168.78.5 1400',
    },
    'of IPv6': {
      host: [...TWO, ...DEFAULT, ...routes],
      choice: { ifaceCanReach: 'fd09::1' },
      stack: V6,
      expected: 'eth1 fd78::1 fd78::1 1400',
    },
    'dual, towards IPv6': {
      host: [...TWO, ...DEFAULT, ...routes],
      choice: { ifaceCanReach: 'fd09::1' },
      stack: DUAL,
      expected: 'eth1 192.168.78.1 and fd78::1 192.168.78.1 and fd78::1 1400',
    },
    'through several interfaces takes one of them': {
      host: [
        ...TWO,
        'route add default nexthop via 192.168.77.254 dev eth0 nexthop via 192.168.78.254 dev eth1',
      ],
      choice: { ifaceCanReach: '8.8.8.8' },
      expected: /^eth[01] 192\.168\.7[78]\.1 /,
    },
    'without a way': {
      host: TWO,
      choice: { ifaceCanReach: '10.9.0.1' },
      expected: /failed to get ifcanreach based interface: the kernel has no route to it \(ENETUNREACH/,
    },
    'where a route refuses': {
      host: [...TWO, ...DEFAULT, 'route add prohibit 10.9.0.0/16'],
      choice: { ifaceCanReach: '10.9.0.1' },
      expected: /the kernel has no route to it \(EACCES/,
    },
    'last of all': {
      host: [...TWO, ...DEFAULT, ...routes],
      choice: { ifaceRegex: ['^eth0'], ifaceCanReach: '10.9.0.1' },
      expected: 'eth0 192.168.77.1 192.168.77.1 1500',
    },
  });
});

describe('public addresses', () => {
  table({
    'of an interface choose it': {
      host: [...TWO, ...DEFAULT],
      choice: { publicIp: '192.168.78.1' },
      expected: 'eth1 192.168.78.1 192.168.78.1 1400',
    },
    'of a NAT leave the choice to the default route': {
      host: [...TWO, ...DEFAULT],
      choice: { publicIp: '203.0.113.7' },
      expected: 'eth0 192.168.77.1 203.0.113.7 1500',
    },
    'of a NAT are announced for another interface, too': {
      host: [...TWO, ...DEFAULT],
      choice: { publicIp: '203.0.113.7', iface: ['eth1'] },
      expected: 'eth1 192.168.78.1 203.0.113.7 1400',
    },
    'of IPv6 choose the interface': {
      host: [...TWO, ...DEFAULT],
      choice: { publicIpv6: 'fd78::1' },
      stack: V6,
      expected: 'eth1 fd78::1 fd78::1 1400',
    },
    'dual, of IPv6 alone, choose it': {
      host: [...TWO, ...DEFAULT],
      choice: { publicIpv6: 'fd78::1' },
      stack: DUAL,
      expected: 'eth1 192.168.78.1 and fd78::1 192.168.78.1 and fd78::1 1400',
    },
    'dual, of a NAT': {
      host: [...TWO, ...DEFAULT],
      choice: { publicIp: '203.0.113.7', publicIpv6: '2001:db8::7' },
      stack: DUAL,
      expected: 'eth0 192.168.77.1 and fd77::1 203.0.113.7 and 2001:db8::7 1500',
    },
  });
});

test('what was chosen is told in the words of flannel', () => {
  ip([...TWO, ...DEFAULT]);
  select({ publicIpv6: '2001:db8::7' }, DUAL);
  assert.deepEqual(
    lines.map((line) => line.replace(/^[^\]]*\] /, '').trim()),
    [
      'Using interface with name eth0 and address 192.168.77.1',
      'Defaulting external address to interface address (192.168.77.1)',
      'Using 192.168.77.1 as external address',
      'Using interface with name eth0 and v6 address fd77::1',
      'Using 2001:db8::7 as external v6 address',
    ],
  );
});

test('a way that changes is heard of and followed', async () => {
  ip([...TWO, ...DEFAULT, 'route add 10.9.0.0/16 via 192.168.78.254']);
  const choice = { ...NO_CHOICE, ifaceCanReach: '10.9.0.1' };
  const first = select(choice, V4);
  assert.equal(first.name, 'eth1');
  const monitor = new NetworkMonitor(new Cidr4(0x0af40000, 16), watchedBy(choice, V4));
  const forever = new AbortController().signal;
  try {
    await monitor.next(null, forever);
    ip(['route delete 10.9.0.0/16']);
    const heard = performance.now();
    assert.equal(await monitor.next(20_000, forever), true);
    assert.ok(performance.now() - heard < 20_000);
    assert.equal(followInterface(first, choice, surveyHost(choice, V4)).name, 'eth0');
    ip(['route delete default']);
    assert.equal(followInterface(first, choice, surveyHost(choice, V4)).name, 'eth1');
  } finally {
    monitor.close();
  }
});
