import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseNetworkConfig } from '../../src/config.js';
import type { NetworkConfig } from '../../src/config.js';
import { LeaseError } from '../../src/errors.js';
import { Cidr4 } from '../../src/ip.js';
import { Cidr6, ip6FromNumber, ip6ToNumber } from '../../src/ip6.js';
import { chooseSubnet, countHosts, isCompatible } from '../../src/lease/allocate.js';
import { freeSubnets } from '../../src/lease/free-subnets.js';
import type { LeaseSubnet } from '../../src/lease/lease.js';
import { overlap } from '../../src/lease/lease.js';
import { formatSubnetKey } from '../../src/lease/subnet-key.js';
import { ipv6Space } from '../../src/lease/subnet-space.js';
import { bothOf, spansOf } from '../lib/store.js';

function ipv6(IPv6Network: string, more: object = {}): NetworkConfig {
  return parseNetworkConfig(JSON.stringify({ EnableIPv4: false, EnableIPv6: true, IPv6Network, ...more }));
}

const dual = parseNetworkConfig(
  JSON.stringify({ Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fd00::/48' }),
);

function chosen(config: NetworkConfig, taken: string[] = [], random = () => 0): string {
  return formatSubnetKey(chooseSubnet(config, taken.map(bothOf), random));
}

/** The free subnets of the network. */
function freeOf(config: NetworkConfig, taken: readonly Cidr6[], most = 100): string[] {
  const space = ipv6Space(config);
  return freeSubnets(space, [spansOf(space, taken)], most).map((index) => space.at(index).toString());
}

const cidrs = (...texts: string[]) => texts.flatMap((text) => Cidr6.parse(text) ?? []);

describe('free IPv6 subnets', () => {
  it('begin with the first one that nothing overlaps', () => {
    assert.deepEqual(
      freeOf(ipv6('fd00::/48'), cidrs('fd00:0:0:1::/64', 'fd00:0:0:3:8000::/65', 'fe00::/64'), 3),
      ['fd00:0:0:2::/64', 'fd00:0:0:4::/64', 'fd00:0:0:5::/64'],
    );
    assert.deepEqual(freeOf(ipv6('fd00::/48'), cidrs('::/0')), []);
    const most = freeOf(ipv6('fd00::/48'), cidrs('fd00:0:0:1::/63', 'fd00:0:0:4::/62'), Infinity);
    assert.equal(most.length, 65_535 - 5);
    assert.equal(most.at(-1), 'fd00:0:0:ffff::/64');
  });

  it('are found in networks too large to be walked', () => {
    assert.equal(freeOf(ipv6('fd00::/16'), [])[0], 'fd00:0:0:1::/64');
    assert.equal(freeOf(ipv6('2000::/3', { IPv6SubnetLen: 126 }), [])[99], '2000::190/126');
    // The first 2^47 of them are one lease's.
    const late = freeOf(ipv6('fd00::/16'), cidrs('fd00::/17', 'fd00:8000::/32', 'fd00:8001:0:0::/64'));
    assert.deepEqual([late.length, late[0]], [100, 'fd00:8001:0:1::/64']);
  });

  it('agree with a slow search over random leases', () => {
    const prefix = fc
      .tuple(fc.nat(0x1ff), fc.nat(0xff), fc.integer({ min: 40, max: 128 }))
      .map(([high, low, length]) => {
        const ip = ip6ToNumber('fd00:0:1::') + (BigInt(high) << 64n) + BigInt(low);
        return new Cidr6(ip6FromNumber(ip), length);
      });
    const config = ipv6('fd00:0:1::/56');
    fc.assert(
      fc.property(fc.array(prefix, { maxLength: 60 }), (taken) => {
        const slow: string[] = [];
        for (let n = 1; n < 256; n++) {
          const subnet = new Cidr6(`fd00:0:1:${n.toString(16)}::`, 64);
          if (!taken.some((other) => other.overlaps(subnet))) slow.push(subnet.toString());
        }
        assert.deepEqual(freeOf(config, taken, Infinity), slow);
      }),
      { numRuns: 300 },
    );
  });
});

describe('the choice in two families', () => {
  it('falls on the same place in both', () => {
    assert.equal(chosen(dual), '10.5.1.0-24&fd00:0:0:1::-64');
    assert.equal(
      chosen(dual, [], () => 0.999),
      '10.5.100.0-24&fd00:0:0:64::-64',
    );
    assert.equal(chosen(dual, ['10.5.1.0/24', 'fd00:0:0:1::/64 10.5.2.0/24']), '10.5.3.0-24&fd00:0:0:2::-64');
    assert.equal(chosen(ipv6('fd00::/48'), ['10.5.0.0/16']), '0.0.0.0-0&fd00:0:0:1::-64');
  });

  it('leaves what is settled', () => {
    const kept = bothOf('10.5.77.0/24');
    assert.equal(formatSubnetKey(chooseSubnet(dual, [], () => 0, [], kept)), '10.5.77.0-24&fd00:0:0:1::-64');
  });

  it('prefers in each what was never used, or not for longest', () => {
    const config = ipv6('fd00::/62', { IPv6SubnetMin: 'fd00::' });
    const used = ['fd00::/64', 'fd00:0:0:1::/64', 'fd00:0:0:2::/64'].map((text, i) => ({
      subnet: bothOf(text),
      since: [30, 10, 20][i] ?? 0,
    }));
    const choose = (taken: string[]) =>
      chooseSubnet(config, taken.map(bothOf), () => 0.99, used).v6?.toString();
    assert.equal(choose([]), 'fd00:0:0:3::/64');
    assert.equal(choose(['fd00:0:0:3::/64']), 'fd00:0:0:1::/64');
    assert.equal(choose(['fd00:0:0:3::/64', 'fd00:0:0:1::/64']), 'fd00:0:0:2::/64');
  });

  it('fails with figures and a remedy when one of them has none', () => {
    const config = parseNetworkConfig(
      JSON.stringify({ Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fd00::/62' }),
    );
    assert.throws(
      () => chosen(config, ['10.5.1.0/24 fd00:0:0:1::/64', 'fd00:0:0:2::/63']),
      (error: Error) => {
        assert.ok(error instanceof LeaseError);
        assert.match(
          error.message,
          /^out of subnets: 2 leases .* all 3 .*fd00:0:0:1:: to fd00:0:0:3::; widen IPv6Network/,
        );
        return true;
      },
    );
  });

  it('never overlaps what is taken, and fits the network', () => {
    const v4 = fc
      .tuple(fc.nat(0xffff), fc.integer({ min: 18, max: 31 }))
      .map(([offset, length]) => new Cidr4(0x0a050000 + offset, length));
    const v6 = fc
      .tuple(fc.nat(0xffff), fc.integer({ min: 50, max: 127 }))
      .map(([n, length]) => new Cidr6(`fd00:0:0:${n.toString(16)}::`, length));
    const subnet: fc.Arbitrary<LeaseSubnet> = fc
      .record({ v4: fc.option(v4), v6: fc.option(v6) })
      .filter((parts) => parts.v4 !== null || parts.v6 !== null);
    const leases = fc.array(subnet, { maxLength: 40 });
    const used = fc.array(fc.record({ subnet, since: fc.nat() }), { maxLength: 40 });
    fc.assert(
      fc.property(
        leases,
        used,
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (taken, former, dice) => {
          let found: LeaseSubnet;
          try {
            found = chooseSubnet(dual, taken, () => dice, former);
          } catch (error) {
            assert.ok(error instanceof LeaseError);
            assert.equal(countHosts(dual, taken).free, 0);
            return;
          }
          assert.ok(isCompatible(found, dual));
          assert.ok(!taken.some((other) => overlap(other, found)));
        },
      ),
      { numRuns: 500 },
    );
  });

  it('is quick among 60,000 leases', () => {
    const config = parseNetworkConfig(
      JSON.stringify({ Network: '10.0.0.0/8', EnableIPv6: true, IPv6Network: 'fd00::/48' }),
    );
    const taken = Array.from({ length: 60_000 }, (_, i) => {
      const n = 1 + ((i * 7919) % 60_000);
      return { v4: new Cidr4(0x0a000000 + n * 256, 24), v6: new Cidr6(`fd00:0:0:${n.toString(16)}::`, 64) };
    });
    const started = performance.now();
    const found = chooseSubnet(config, taken, () => 0);
    const ms = performance.now() - started;
    assert.equal(found.v6?.toString(), 'fd00:0:0:ea61::/64');
    assert.ok(ms < 500, `${ms} ms`);
  });
});

describe('how many hosts there is room for', () => {
  it('is what the smaller family says', () => {
    const config = parseNetworkConfig(
      JSON.stringify({ Network: '10.5.0.0/16', EnableIPv6: true, IPv6Network: 'fd00::/58' }),
    );
    assert.deepEqual(countHosts(config, []), { all: 63, free: 63 });
    assert.deepEqual(countHosts(config, ['10.5.0.0/17 fd00:0:0:1::/64'].map(bothOf)), { all: 63, free: 62 });
    assert.deepEqual(countHosts(config, ['10.5.0.0/16'].map(bothOf)), { all: 63, free: 0 });
    assert.deepEqual(countHosts(dual, []), { all: 255, free: 255 });
  });
});

describe('a compatible subnet', () => {
  it('has a part for each family of the network, and no other', () => {
    const v4 = parseNetworkConfig('{"Network":"10.5.0.0/16"}');
    const v6 = ipv6('fd00::/48');
    const fits = (config: NetworkConfig) =>
      [
        '10.5.1.0/24',
        'fd00:0:0:1::/64',
        '10.5.1.0/24 fd00:0:0:1::/64',
        '10.5.1.0/24 fd00::/64',
        '10.5.1.0/24 fd00:0:1::/64',
        '10.5.1.0/24 fd00:0:0:2::/63',
        '10.5.1.0/24 fd00:0:0:1::1/64',
        '10.5.0.0/24 fd00:0:0:1::/64',
      ].map((text) => Number(isCompatible(bothOf(text), config)));
    assert.deepEqual(fits(v4), [1, 0, 0, 0, 0, 0, 0, 0]);
    assert.deepEqual(fits(v6), [0, 1, 0, 0, 0, 0, 0, 0]);
    assert.deepEqual(fits(dual), [0, 0, 1, 0, 0, 0, 0, 0]);
  });
});
