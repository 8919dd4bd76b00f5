/** Which interface each flag takes, by real links, addresses and routes. */
import { afterEach, describe } from 'node:test';
import { cable, clear, DEFAULT, DUAL, table, TWO, V6 } from '../lib/iface-table.js';

afterEach(clear);

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
