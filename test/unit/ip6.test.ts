import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { canonicalIp6, ip6FromBytes, ip6ToBytes, sharePrefix6 } from '../../src/ip6.js';

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
