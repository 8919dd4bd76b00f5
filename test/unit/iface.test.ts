import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import {
  describeAddress,
  followInterface,
  IPV4_ONLY,
  selectInterface,
} from '../../src/iface/external-interface.js';
import type { InterfaceChoice, Stack } from '../../src/iface/external-interface.js';
import { formatIp4 } from '../../src/ip.js';
import { captureLog } from '../lib/store.js';
import { hostNetwork, NO_CHOICE } from '../lib/host-network.js';
import type { HostSketch } from '../lib/host-network.js';

beforeEach(() => {
  captureLog();
});

const BOTH: HostSketch = { eth0: ['192.168.77.1'], eth1: ['192.168.78.1'], default: 'eth0' };

/** `name address public-ip mtu` after the host has become `then`, or the error's message. */
function followed(
  given: Partial<InterfaceChoice>,
  then: HostSketch,
  first = BOTH,
  stack = IPV4_ONLY,
): string {
  const choice = { ...NO_CHOICE, ...given };
  const before = selectInterface(choice, hostNetwork(first), stack);
  try {
    const now = followInterface(before, choice, hostNetwork(then));
    const publicIps = [now.publicIp === null ? [] : formatIp4(now.publicIp), now.publicIpV6 ?? []].flat();
    return `${now.name} ${describeAddress(now)} ${publicIps.join(' and ')} ${now.mtu}`;
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

describe('an --iface-regex that was taken', () => {
  const choice = { ifaceRegex: ['^eth'] };
  const cases: [string, HostSketch, string | RegExp][] = [
    ['stays where it was', { ...BOTH, default: 'eth1' }, 'eth0 192.168.77.1 192.168.77.1 1500'],
    ['stays beside a new first match', { eth: ['10.0.0.1'], ...BOTH }, 'eth0 192.168.77.1 192.168.77.1 1500'],
    ['with another address', { ...BOTH, eth0: ['10.0.0.5'] }, 'eth0 10.0.0.5 10.0.0.5 1500'],
    ['goes to the next match', { ...BOTH, eth0: [] }, 'eth1 192.168.78.1 192.168.78.1 1500'],
    [
      'never to what does not match',
      { br0: ['10.0.0.1'], default: 'br0' },
      /could not match pattern \^eth to any of the available network interfaces \(br0:\[10\.0\.0\.1\]\)/,
    ],
    [
      'never to the overlay',
      { flannel0: ['10.244.1.0'], eth1: ['10.0.0.9'], default: null },
      'eth1 10.0.0.9 10.0.0.9 1500',
    ],
  ];
  for (const [name, then, expected] of cases) {
    test(name, () => {
      const result = followed(choice, then);
      if (typeof expected === 'string') assert.equal(result, expected);
      else assert.match(result, expected);
    });
  }

  test('for its address goes where such an address is', () => {
    const byAddress = { ifaceRegex: ['^192\\.168\\.77\\.'] };
    assert.match(followed(byAddress, { ...BOTH, eth0: ['192.168.77.9'] }), /^eth0 192\.168\.77\.9 /);
    assert.match(followed(byAddress, { eth0: [], br0: ['192.168.77.1'] }), /^br0 192\.168\.77\.1 /);
    assert.match(followed(byAddress, { ...BOTH, eth0: ['10.0.0.9'] }), /could not match pattern/);
  });
});

describe('an --iface-can-reach that was taken', () => {
  const choice = { ifaceCanReach: '10.9.9.9' };
  const first: HostSketch = { ...BOTH, reach: ['eth0', '192.168.77.1'] };
  const after = (then: HostSketch) => followed(choice, then, first);

  test('goes where the way goes', () => {
    assert.match(after({ ...BOTH, reach: ['eth1', '192.168.78.1'] }), /^eth1 192\.168\.78\.1 /);
  });

  test('keeps its address beside one that the kernel prefers', () => {
    const then: HostSketch = {
      ...BOTH,
      eth0: ['192.168.77.5', '192.168.77.1'],
      reach: ['eth0', '192.168.77.5'],
    };
    assert.match(after(then), /^eth0 192\.168\.77\.1 /);
  });

  test('stays while there is no way', () => {
    assert.match(after({ ...BOTH, default: 'eth1', reach: null }), /^eth0 192\.168\.77\.1 /);
    assert.match(after({ eth1: ['192.168.78.1'], reach: null }), /failed to get ifcanreach based interface/);
  });
});

describe('with both families', () => {
  const dual = { enableIPv4: true, enableIPv6: true };
  const first: HostSketch = { ...BOTH, v6: { eth0: ['fd77::1'], eth1: ['fd78::1'] } };

  test('either address is followed', () => {
    const then: HostSketch = { ...first, v6: { eth0: ['fd77::5'] } };
    assert.equal(
      followed({}, then, first, dual),
      'eth0 192.168.77.1 and fd77::5 192.168.77.1 and fd77::5 1500',
    );
    assert.match(
      followed({}, { ...first, eth0: ['10.0.0.5'] }, first, dual),
      /^eth0 10\.0\.0\.5 and fd77::1 /,
    );
    assert.match(followed({}, { ...first, v6: {} }, first, dual), /eth0 has no usable IPv6 address/);
  });

  test('IPv6 alone is followed, too', () => {
    const only = { enableIPv4: false, enableIPv6: true };
    const then: HostSketch = { ...first, eth0: [], v6: { eth0: ['fd77::5', 'fd77::1'] } };
    assert.equal(followed({}, then, first, only), 'eth0 fd77::1 fd77::1 1500');
  });
});

describe('no IPv6 for an MTU below 1280 is told with the cause and what helps:', () => {
  const hint = (name: string) =>
    `the kernel has no IPv6 on interfaces with an MTU below 1280, such as ${name} (MTU 1200): ` +
    `ip link set dev ${name} mtu 1280, then add its IPv6 address and route again, or `;
  const DUAL = { enableIPv4: true, enableIPv6: true };

  function refusal(sketch: HostSketch, stack: Stack, given: Partial<InterfaceChoice> = {}): string {
    const host = { ...hostNetwork(sketch), v6: { addresses: [], routes: [] } };
    try {
      return selectInterface({ ...NO_CHOICE, ...given }, host, stack).name;
    } catch (error) {
      return (error as Error).message;
    }
  }

  test('no default route, in the words of stock flannel at first', () => {
    const sketch = { ...BOTH, mtu: { eth0: 1200 } };
    const start = `unable to find default v6 route: ${hint('eth0')}choose the interface with --iface; there is `;
    assert.ok(refusal(sketch, DUAL).startsWith(start), refusal(sketch, DUAL));
    const alone = { enableIPv4: false, enableIPv6: true };
    assert.ok(refusal({ ...sketch, default: null }, alone).startsWith(start));
  });

  test('no address on the interface that a flag names', () => {
    const message = refusal({ ...BOTH, mtu: { eth1: 1200 } }, DUAL, { iface: ['eth1'] });
    assert.ok(message.includes(`no usable IPv6 address (192.168.78.1): ${hint('eth1')}give it one`), message);
  });

  test('not where the interface is wide enough, another one is narrow, or IPv4 is what is missing', () => {
    for (const [sketch, stack] of [
      [BOTH, DUAL],
      [{ ...BOTH, mtu: { eth1: 1200 } }, DUAL],
      [{ ...BOTH, mtu: { eth0: 1200 }, default: null }, DUAL],
      [{ ...BOTH, mtu: { eth0: 1200 }, default: null }, IPV4_ONLY],
    ] as const) {
      const message = refusal(sketch, stack);
      assert.match(message, /^unable to find default (v6 )?route: choose the interface with --iface/);
    }
  });
});

describe('what makes no sense is an error that names it', () => {
  const cases: [Partial<InterfaceChoice>, RegExp][] = [
    [{ publicIp: '300.1.1.1' }, /^invalid public IP address: 300\.1\.1\.1; write --public-ip=/],
    [{ publicIpv6: 'fd00::/64' }, /^invalid public IPv6 address: fd00::\/64; write --public-ipv6=/],
    [
      { ifaceCanReach: 'example.org' },
      /^invalid IP address to reach: example\.org; write --iface-can-reach=/,
    ],
    [
      { ifaceRegex: ['eth', 'wg[0'] },
      /^could not compile the IP address regex 'wg\[0': error parsing regexp: missing closing \]: `\[0`; mend --iface-regex$/,
    ],
    [{ ifaceRegex: ['(?=eth)'] }, /invalid or unsupported Perl syntax: `\(\?=`/],
  ];
  for (const [choice, expected] of cases) {
    test(JSON.stringify(choice), () => {
      assert.throws(() => selectInterface({ ...NO_CHOICE, ...choice }, hostNetwork(BOTH)), {
        message: expected,
      });
    });
  }

  test('no family at all', () => {
    const none = { enableIPv4: false, enableIPv6: false };
    assert.throws(() => selectInterface(NO_CHOICE, hostNetwork(BOTH), none), {
      message: /^none defined stack/,
    });
  });
});

describe("an --iface-regex is one of Go's", () => {
  const cases: [string, boolean][] = [
    ['eth', true],
    ['h0$', true],
    ['^th', false],
    ['(?i)ETH[0-9]', true],
    ['(?i:E)TH', false],
    ['(?P<kind>e(t))h', true],
    ['\\Qeth0\\E', true],
    ['\\Qeth.\\E', false],
    ['^[[:alpha:]]+\\d\\z', true],
    ['^\\Aeth', true],
    ['^\\p{Ll}{3}\\pN$', true],
    ['192\\.168\\.77\\.1', true],
    ['', true],
  ];
  for (const [regex, expected] of cases) {
    test(regex, () => {
      const select = () => selectInterface({ ...NO_CHOICE, ifaceRegex: [regex] }, hostNetwork(BOTH)).name;
      if (expected) assert.equal(select(), 'eth0');
      else assert.throws(select, /could not match pattern/);
    });
  }
});
