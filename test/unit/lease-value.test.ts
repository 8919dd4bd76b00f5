import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FlannelError } from '../../src/errors.js';
import { compactJson } from '../../src/gojson.js';
import { canonicalIp6 } from '../../src/ip6.js';
import type { LeaseAttrs } from '../../src/lease/lease.js';
import { formatLeaseValue, parseLeaseValue } from '../../src/lease/lease-value.js';

const UDP: LeaseAttrs = {
  publicIp: 0xc0a84d01, // 192.168.77.1
  publicIpV6: null,
  backendType: '',
  backendData: null,
  backendV6Data: null,
};

describe('formatLeaseValue', () => {
  test('udp publishes its address and nothing else', () => {
    assert.equal(formatLeaseValue(UDP), '{"PublicIP":"192.168.77.1","PublicIPv6":null}');
    assert.equal(formatLeaseValue({ ...UDP, publicIp: 0 }), '{"PublicIP":"0.0.0.0","PublicIPv6":null}');
  });

  test('optional members follow in a fixed order, backend data compacted', () => {
    const attrs = {
      ...UDP,
      publicIpV6: 'fd00::1',
      backendType: 'vx<lan',
      backendData: '{ "VNI": 1, "VtepMAC": "aa:bb" }',
      backendV6Data: '{"x":"&"}',
    };
    assert.equal(
      formatLeaseValue(attrs),
      '{"PublicIP":"192.168.77.1","PublicIPv6":"fd00::1","BackendType":"vx\\u003clan",' +
        '"BackendData":{"VNI":1,"VtepMAC":"aa:bb"},"BackendV6Data":{"x":"\\u0026"}}',
    );
    assert.match(formatLeaseValue({ ...UDP, backendV6Data: '{}' }), /"PublicIPv6":null,"BackendV6Data":{}}$/);
  });

  test('backend data must be JSON', () => {
    assert.throws(() => formatLeaseValue({ ...UDP, backendData: '{"a":1},"b":2' }), FlannelError);
  });
});

describe('parseLeaseValue', () => {
  test('reads the udp value', () => {
    assert.deepEqual(parseLeaseValue('{"PublicIP":"192.168.77.1","PublicIPv6":null}'), UDP);
  });

  const readable: [string, string, Partial<LeaseAttrs>][] = [
    ['names in any case', '{"publicip":"192.168.77.1","BACKENDTYPE":"udp"}', { backendType: 'udp' }],
    ['unknown members', '{"PublicIP":"192.168.77.1","Zone":[1]}', {}],
    ['missing PublicIP', '{}', { publicIp: 0 }],
    ['null document', 'null', { publicIp: 0 }],
    ['the last of several', '{"PublicIP":"1.2.3.4","publicIP":"192.168.77.1"}', {}],
    ['PublicIPv6', '{"PublicIP":"192.168.77.1","PublicIPv6":"FD00:0::1"}', { publicIpV6: 'fd00::1' }],
    [
      'data as written',
      '{"PublicIP":"192.168.77.1","BackendData":{ "a": 1 }}',
      { backendData: '{ "a": 1 }' },
    ],
    ['null data', '{"PublicIP":"192.168.77.1","BackendData":null,"BackendType":null}', {}],
  ];
  for (const [name, text, attrs] of readable) {
    test(name, () => {
      assert.deepEqual(parseLeaseValue(text), { ...UDP, ...attrs });
    });
  }

  const unreadable: [string, RegExp][] = [
    ['{"PublicIP":null}', /PublicIP is null, expected an IPv4 address/],
    ['{"PublicIP":""}', /PublicIP is "", expected an IPv4 address/],
    ['{"PublicIP":"fd00::1"}', /PublicIP is "fd00::1", expected an IPv4 address/],
    ['{"PublicIP":1}', /PublicIP is 1, expected an IPv4 address/],
    ['{"PublicIP":null,"PublicIP":"1.2.3.4"}', /PublicIP is null/],
    ['{"PublicIPv6":""}', /PublicIPv6 is "", expected an IPv6 address/],
    ['{"BackendType":7}', /BackendType is 7, expected a string/],
    ['[]', /lease value is of type array, expected a JSON object/],
    ['', /invalid JSON at line 1, column 1/],
    ['{"PublicIP":"1.2.3.4"}}', /column 23: found "}", expected the end of the text/],
  ];
  for (const [text, message] of unreadable) {
    test(`refuses ${text}`, () => {
      assert.throws(
        () => parseLeaseValue(text),
        (error: Error) => error instanceof FlannelError && message.test(error.message),
      );
    });
  }

  test('round trip', () => {
    const data = fc.option(
      fc
        .json()
        .map(compactJson)
        .filter((json) => json !== 'null'),
    );
    const attrs = fc.record({
      publicIp: fc.nat({ max: 0xffffffff }),
      publicIpV6: fc.option(fc.ipV6().map((text) => canonicalIp6(text) ?? '')),
      backendType: fc.string({ unit: 'grapheme' }),
      backendData: data,
      backendV6Data: data,
    });
    fc.assert(
      fc.property(attrs, (given) => {
        assert.deepEqual(parseLeaseValue(formatLeaseValue(given)), { ...given });
      }),
    );
  });

  test('garbage never gives anything but a FlannelError', () => {
    const names = ['PublicIP', 'PublicIPv6', 'BackendType', 'BackendData', 'x'];
    const almost = fc
      .dictionary(fc.constantFrom(...names), fc.jsonValue())
      .map((value) => JSON.stringify(value));
    fc.assert(
      fc.property(fc.oneof(almost, fc.json(), fc.string()), (text) => {
        try {
          parseLeaseValue(text);
        } catch (error) {
          assert(error instanceof FlannelError);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
