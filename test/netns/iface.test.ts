/** Which interface is taken, under which of its addresses, by real links, addresses and routes; the flags' own file beside. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { afterEach, describe, test } from 'node:test';
import { followInterface } from '../../src/iface/external-interface.js';
import { surveyHost, watchedBy } from '../../src/iface/survey.js';
import { Cidr4 } from '../../src/ip.js';
import { NetworkMonitor } from '../../src/netlink/monitor.js';
import { NO_CHOICE } from '../lib/host-network.js';
import { cable, clear, DEFAULT, DUAL, ip, select, table, told, TWO, V4, V6 } from '../lib/iface-table.js';
import { captureLog } from '../lib/store.js';

afterEach(clear);

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
      host: only('fe80::1/64 nodad'), // the kernel's own comes when it pleases
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
    captureLog();
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

test('what was chosen is told in the words of flannel', () => {
  const lines = captureLog();
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
  captureLog();
  ip([...TWO, ...DEFAULT, 'route add 10.9.0.0/16 via 192.168.78.254']);
  const choice = { ...NO_CHOICE, ifaceCanReach: '10.9.0.1' };
  const first = select(choice, V4);
  assert.equal(first.name, 'eth1');
  const monitor = new NetworkMonitor([new Cidr4(0x0af40000, 16)], watchedBy(choice, V4));
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
