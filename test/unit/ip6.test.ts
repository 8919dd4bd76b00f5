import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { canonicalIp6, Cidr6, ip6FromBytes, ip6ToBytes, sharePrefix6 } from '../../src/ip6.js';

const bytes = fc.uint8Array({ minLength: 16, maxLength: 16 });
/** Runs of zeros, which is where the text differs from the bytes, are rare among random bytes. */
const sparse = fc
  .tuple(bytes, bytes)
  .map(([a, mask]) => a.map((byte, i) => ((mask[i] ?? 0) > 90 ? 0 : byte)));

describe('the bytes of an IPv6 address', () => {
  test('make its canonical text, and it makes them', () => {
    fc.assert(
      fc.property(sparse, (address) => {
        const text = ip6FromBytes(address);
        assert.equal(canonicalIp6(text), text);
        assert.deepEqual(ip6ToBytes(text), address);
      }),
    );
  });

  test('of some addresses', () => {
    for (const text of ['::', '::1', 'fe80::', 'fd00:1:0:0:2::3', '1:2:3:4:5:6:7:8', '2001:db8::7']) {
      assert.equal(ip6FromBytes(ip6ToBytes(canonicalIp6(text) ?? '')), canonicalIp6(text));
    }
  });
});

test('two addresses share the bits of a prefix', () => {
  assert.ok(sharePrefix6('fd00::1', 'fd00::2', 126));
  assert.ok(!sharePrefix6('fd00::1', 'fd00::2', 127));
  assert.ok(sharePrefix6('::', 'ffff::', 0));
  assert.ok(sharePrefix6('fd00::1', 'fd00::1', 128));
});

test('networks', () => {
  const network = (text: string) => Cidr6.parse(text)?.network().toString();
  assert.equal(network('fd00:5:0:1::7/48'), 'fd00:5::/48');
  assert.equal(network('FD00:5:FFFF::/33'), 'fd00:5:8000::/33');
  assert.equal(network('2001:db8::1/128'), '2001:db8::1/128');
  assert.equal(network('::1/0'), '::/0');
  for (const text of ['fd00::', 'fd00::/129', 'fd00::/', 'fd00::/064', '10.0.0.0/8', 'x/48']) {
    assert.equal(network(text), undefined);
  }
});

test('networks and what they hold', () => {
  const whole = new Cidr6('fd00:5::', 48);
  assert.ok(whole.contains('fd00:5:0:ffff::1'));
  assert.ok(!whole.contains('fd00:6::'));
  assert.ok(whole.overlaps(new Cidr6('fd00:5:0:1::', 64)));
  assert.ok(new Cidr6('fd00:5:0:1::', 64).overlaps(whole));
  assert.ok(!new Cidr6('fd00:5:0:1::', 64).overlaps(new Cidr6('fd00:5:0:2::', 64)));
  assert.ok(whole.equals(new Cidr6('fd00:5::', 48)));
  assert.equal(whole.toString('-'), 'fd00:5::-48');
});
