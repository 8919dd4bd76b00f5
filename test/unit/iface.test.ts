import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { followInterface, selectInterface } from '../../src/iface.js';
import type { InterfaceChoice } from '../../src/iface.js';
import { formatIp4 } from '../../src/ip.js';
import { captureLog } from '../lib/store.js';
import { hostNetwork } from '../lib/host-network.js';
import type { HostSketch } from '../lib/host-network.js';

beforeEach(() => {
  captureLog();
});

const BOTH: HostSketch = { eth0: ['192.168.77.1'], eth1: ['192.168.78.1'], default: 'eth0' };

/** `name address public-ip mtu` after the host has become `then`, or the error's message. */
function followed(given: Partial<InterfaceChoice>, then: HostSketch, first = BOTH): string {
  const choice = { iface: [], publicIp: '', ...given };
  const before = selectInterface(choice, hostNetwork(first));
  try {
    const { name, address, publicIp, mtu } = followInterface(before, choice, hostNetwork(then));
    return `${name} ${formatIp4(address)} ${formatIp4(publicIp)} ${mtu}`;
  } catch (error) {
    return (error as Error).message;
  }
}

describe('without --iface', () => {
  const cases: [string, HostSketch, string | RegExp][] = [
    ['nothing changed', BOTH, 'eth0 192.168.77.1 192.168.77.1 1500'],
    ['another address', { ...BOTH, eth0: ['192.168.77.5'] }, 'eth0 192.168.77.5 192.168.77.5 1500'],
    [
      'one more address, in front',
      { ...BOTH, eth0: ['192.168.77.5', '192.168.77.1'] },
      'eth0 192.168.77.1 192.168.77.1 1500',
    ],
    ['another MTU', { ...BOTH, mtu: { eth0: 1400 } }, 'eth0 192.168.77.1 192.168.77.1 1400'],
    ['the default route elsewhere', { ...BOTH, default: 'eth1' }, 'eth1 192.168.78.1 192.168.78.1 1500'],
    ['no default route', { ...BOTH, default: null }, 'eth0 192.168.77.1 192.168.77.1 1500'],
    [
      'no default route and another address',
      { ...BOTH, eth0: ['192.168.77.5'], default: null },
      'eth0 192.168.77.5 192.168.77.5 1500',
    ],
    [
      'a default route to where there is no address',
      { ...BOTH, eth1: [], default: 'eth1' },
      'eth0 192.168.77.1 192.168.77.1 1500',
    ],
    ['no address', { ...BOTH, eth0: [] }, /eth0 has no usable IPv4 address/],
    ['no interface', { eth1: ['192.168.78.1'], default: null }, /unable to find default route/],
  ];
  for (const [name, then, expected] of cases) {
    test(name, () => {
      const result = followed({}, then);
      if (typeof expected === 'string') assert.equal(result, expected);
      else assert.match(result, expected);
    });
  }
});

describe('an --iface that was taken stays', () => {
  test('by name, wherever the default route goes, and with other addresses', () => {
    const choice = { iface: ['eth7', 'eth0', 'eth1'] };
    assert.match(followed(choice, { ...BOTH, default: 'eth1' }), /^eth0 192\.168\.77\.1 /);
    assert.match(followed(choice, { ...BOTH, eth0: ['192.168.77.5'] }), /^eth0 192\.168\.77\.5 /);
    assert.match(followed(choice, { ...BOTH, eth7: ['10.0.0.1'] }), /^eth0 192\.168\.77\.1 /);
    assert.match(followed(choice, { ...BOTH, eth0: [] }), /^interface eth0 has no usable IPv4 address/);
    assert.match(followed(choice, { eth1: ['192.168.78.1'], default: 'eth1' }), /eth0: no such interface/);
  });

  test('by address, on whichever interface that is', () => {
    const choice = { iface: ['192.168.77.1'] };
    assert.match(followed(choice, { ...BOTH, default: 'eth1' }), /^eth0 192\.168\.77\.1 /);
    assert.match(
      followed(choice, { eth0: [], br0: ['192.168.77.1'], default: 'br0' }),
      /^br0 192\.168\.77\.1 /,
    );
    assert.match(followed(choice, { ...BOTH, eth0: ['192.168.77.5'] }), /no interface with given IP found/);
  });
});

describe('--public-ip is announced', () => {
  test('whatever the addresses do', () => {
    const nat = { publicIp: '203.0.113.7' };
    assert.equal(followed(nat, { ...BOTH, eth0: ['192.168.77.5'] }), 'eth0 192.168.77.5 203.0.113.7 1500');
    assert.equal(followed(nat, { ...BOTH, default: 'eth1' }), 'eth1 192.168.78.1 203.0.113.7 1500');
    const pinned = { ...nat, iface: ['eth0'] };
    assert.equal(followed(pinned, { ...BOTH, default: 'eth1' }), 'eth0 192.168.77.1 203.0.113.7 1500');
  });

  test('and its interface taken as long as one has it', () => {
    const own = { publicIp: '192.168.78.1' };
    assert.equal(followed(own, { ...BOTH, default: null }), 'eth1 192.168.78.1 192.168.78.1 1500');
    assert.equal(followed(own, { ...BOTH, eth1: ['192.168.78.9'] }), 'eth0 192.168.77.1 192.168.78.1 1500');
  });
});
