import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Cidr4, formatIp4 } from '../../src/ip.js';
import { canonicalIp6, Cidr6 } from '../../src/ip6.js';
import { formatSubnetKey, parseSubnetKey } from '../../src/lease/subnet-key.js';

function words(text: string): string {
  const [head = '', tail = ''] = text.split('::');
  const given = [head, tail].map((part) => (part === '' ? [] : part.split(':')));
  const zeros = Array<string>(8 - given.flat().length).fill('0');
  return [...(given[0] ?? []), ...zeros, ...(given[1] ?? [])].join(':');
}

describe('subnet keys', () => {
  test('IPv4', () => {
    const subnet = parseSubnetKey('10.5.1.0-24');
    assert(subnet);
    assert.equal(subnet.v4?.toString(), '10.5.1.0/24');
    assert.equal(subnet.v6, null);
    assert.equal(formatSubnetKey(subnet), '10.5.1.0-24');
  });

  test('dual-stack', () => {
    const key = '10.12.13.0-24&fd00:12:13::-56';
    const subnet = parseSubnetKey(key);
    assert(subnet);
    assert.equal(subnet.v4?.toString(), '10.12.13.0/24');
    assert.equal(subnet.v6?.toString(), 'fd00:12:13::/56');
    assert.equal(formatSubnetKey(subnet), key);
  });

  test('IPv6 only', () => {
    const key = '0.0.0.0-0&fd00:12:13::-64';
    const subnet = parseSubnetKey(key);
    assert(subnet);
    assert.equal(subnet.v4, null);
    assert.equal(subnet.v6?.toString(), 'fd00:12:13::/64');
    assert.equal(formatSubnetKey(subnet), key);
  });

  test('behind the path of the entry', () => {
    assert.equal(parseSubnetKey('/coreos.com/network/subnets/10.5.1.0-24')?.v4?.toString(), '10.5.1.0/24');
  });

  test('host bits are kept, so that the key leads back to the entry', () => {
    const subnet = parseSubnetKey('10.5.1.7-24');
    assert(subnet);
    assert.equal(formatSubnetKey(subnet), '10.5.1.7-24');
    assert.equal(subnet.v4?.network().toString(), '10.5.1.0/24');
  });

  test('lengths that flannel cannot hold', () => {
    assert(parseSubnetKey('10.5.1.0-31'));
    assert(parseSubnetKey('0.0.0.0-0&fd00::-127'));
    assert.equal(parseSubnetKey('10.5.1.0-32'), undefined);
    assert.equal(parseSubnetKey('10.5.1.0-24&fd00::-128'), undefined);
    assert.equal(parseSubnetKey(`10.5.1.0-${'9'.repeat(400)}`), undefined);
  });

  const v4 = '10.12.13.0-24';
  const rejected = [
    ...['', '10', '10.12.13.0', '10.12.13-24', '10.12.13.300-24', `${v4}hi`],
    ...['&:12:13:-56', '&20011::-56', '&2001-56', '&2001::', '&2001::-56hi'].map((v6) => v4 + v6),
    ...['&2001::-56', `${v4}&FD00::-56`, `${v4}&`, `${v4}\n`, `${v4}/`, `x${v4}`, `-${v4}`],
    ...['10.12.13.0-024', '010.12.13.0-24', `${v4}&fd00:0:0::-56`, `${v4}&fd00::-056`, `${v4}&fd00::%1-56`],
  ];
  for (const key of rejected) {
    test(`no key: ${JSON.stringify(key)}`, () => {
      assert.equal(parseSubnetKey(key), undefined);
    });
  }

  test('round trip', () => {
    const length = (most: number) => fc.integer({ min: 0, max: most });
    const v6 = fc.option(fc.tuple(fc.ipV6(), length(127)));
    fc.assert(
      fc.property(fc.nat({ max: 0xffffffff }), length(31), v6, (ip, len, second) => {
        const key = formatSubnetKey({
          v4: new Cidr4(ip, len),
          v6: second && new Cidr6(canonicalIp6(second[0]) ?? '', second[1]),
        });
        const subnet = parseSubnetKey(key);
        assert(subnet);
        assert.equal(formatSubnetKey(subnet), key);
      }),
    );
  });

  test('garbage is never an error', () => {
    const near = fc
      .array(fc.constantFrom('10.5.1.0', '-', '24', '&', 'fd00', ':', '::', '1', '.', '/'), { maxLength: 10 })
      .map((parts) => parts.join(''));
    fc.assert(
      fc.property(fc.oneof(near, fc.string()), (key) => {
        const subnet = parseSubnetKey(key);
        if (subnet) assert(key.endsWith(formatSubnetKey(subnet)));
      }),
      { numRuns: 2000 },
    );
  });
});

describe('canonicalIp6', () => {
  const cases: [string, string | undefined][] = [
    ['FD00:0:0:1::', 'fd00:0:0:1::'],
    ['fc00:0:0:ffff:0:0:0:0', 'fc00:0:0:ffff::'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['::0001', '::1'],
    ['1:0:0:2:0:0:3:4', '1::2:0:0:3:4'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['1::2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['10:0:0:20::30', '10:0:0:20::30'],
    ['::1:2', '::1:2'],
    ['64:ff9b::192.0.2.1', '64:ff9b::c000:201'],
    ['fe80::1%eth0', undefined],
    ['1.2.3.4', undefined],
    ['::1.2.3.400', undefined],
    [':::', undefined],
    ['1:2:3:4:5:6:7', undefined],
    ['', undefined],
  ];
  for (const [text, expected] of cases) {
    test(JSON.stringify(text), () => {
      assert.equal(canonicalIp6(text), expected);
    });
  }

  test('names the same address, in one spelling only', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.nat({ max: 0xffff }).map((n) => (n % 3 === 0 ? 0 : n)),
          { minLength: 8, maxLength: 8 },
        ),
        (address) => {
          const full = address.map((word) => word.toString(16)).join(':');
          const text = canonicalIp6(full);
          assert(text !== undefined);
          assert.equal(words(text), full);
          assert.equal(canonicalIp6(text), text);
          const last = ((address[6] ?? 0) * 65536 + (address[7] ?? 0)) >>> 0;
          const dotted = [...address.slice(0, 6).map((word) => word.toString(16)), formatIp4(last)].join(':');
          assert.equal(canonicalIp6(dotted), text);
        },
      ),
    );
  });
});
