import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseKubeNetworkConfig, parseNetworkConfig } from '../../src/config.js';
import { ConfigError } from '../../src/errors.js';
import { formatIp4 } from '../../src/ip.js';
import { Cidr6, ip6ToNumber } from '../../src/ip6.js';

/** The computed range as text. */
function rangeOf(config: object): string {
  const { network, subnetLen, subnetMin, subnetMax } = parseNetworkConfig(JSON.stringify(config));
  return `${network.toString()} ${subnetLen} ${formatIp4(subnetMin)} ${formatIp4(subnetMax)}`;
}

function ipv6RangeOf(config: object): string {
  const parsed = parseNetworkConfig(JSON.stringify({ EnableIPv4: false, EnableIPv6: true, ...config }));
  const { ipv6Network, ipv6SubnetLen, ipv6SubnetMin, ipv6SubnetMax } = parsed;
  return `${ipv6Network?.toString() ?? ''} ${ipv6SubnetLen} ${ipv6SubnetMin} ${ipv6SubnetMax}`;
}

function refuses(text: string, ...words: string[]): void {
  assert.throws(
    () => parseNetworkConfig(text),
    (error: Error) => {
      assert(error instanceof ConfigError, String(error));
      for (const word of words) assert(error.message.includes(word), `${error.message} lacks ${word}`);
      assert(!error.message.includes('\n'), error.message);
      return true;
    },
    text,
  );
}

describe('parseNetworkConfig: reading', () => {
  test('everything but Network has a default', () => {
    assert.deepEqual(
      { ...parseNetworkConfig('{ "network": "10.3.0.0/16" }'), network: null },
      {
        enableIPv4: true,
        enableIPv6: false,
        enableNFTables: false,
        ipv6Network: null,
        ipv6SubnetMin: '::',
        ipv6SubnetMax: '::',
        ipv6SubnetLen: 0,
        network: null,
        subnetMin: 0x0a030100,
        subnetMax: 0x0a03ff00,
        subnetLen: 24,
        backendType: 'udp',
        backend: '{}',
      },
    );
  });

  test('what is given is kept', () => {
    const config = parseNetworkConfig(
      '{"ENABLEIPV4":true,"EnableNFTables":true,"NETWORK":"10.3.7.9/16","subnetMIN":"10.3.5.0","SubnetMax":"10.3.8.0",' +
        '"SubnetLen":28,"Backend":{ "TYPE": "UDP", "Port": 8286 },"BackendType":"x"}',
    );
    assert.equal(config.enableNFTables, true);
    assert.equal(config.network.toString(), '10.3.0.0/16');
    assert.equal(config.subnetMin, 0x0a030500);
    assert.equal(config.subnetMax, 0x0a030800);
    assert.equal(config.subnetLen, 28);
    assert.equal(config.backendType, 'udp');
    assert.equal(config.backend, '{ "TYPE": "UDP", "Port": 8286 }');
  });

  test('the last of several members counts', () => {
    assert.equal(rangeOf({ Network: '10.1.0.0/16', network: '10.3.0.0/16' }).split(' ')[0], '10.3.0.0/16');
  });

  test('null leaves the default where flannel does so', () => {
    const text =
      '{"Network":"10.3.0.0/16","EnableIPv4":null,"EnableIPv6":null,"EnableNFTables":null,"SubnetLen":null,' +
      '"IPv6SubnetMin":null,"IPv6SubnetMax":null,"IPv6SubnetLen":null}';
    assert.equal(parseNetworkConfig(text).subnetLen, 24);
  });

  test('IPv6 members are read though IPv6 is off; a v4 IPv6Network passes', () => {
    const v6 = { IPv6Network: 'fc00::/48', IPv6SubnetMin: 'fc00:0:0:1::', IPv6SubnetLen: 64 };
    rangeOf({ Network: '10.3.0.0/16', ...v6 });
    rangeOf({ Network: '10.3.0.0/16', IPv6Network: '10.3.0.0/16' });
  });

  const backends: [string, string, string][] = [
    ['null', '', '{}'],
    ['{}', '', '{}'],
    ['{"Port":1}', '', '{"Port":1}'],
    ['{"Type":null}', '', '{"Type":null}'],
    ['{"type":"a","Type":"VXLAN"}', 'vxlan', '{"type":"a","Type":"VXLAN"}'],
  ];
  for (const [json, type, raw] of backends) {
    test(`Backend ${json}`, () => {
      const config = parseNetworkConfig(`{"Network":"10.3.0.0/16","Backend":${json}}`);
      assert.deepEqual([config.backendType, config.backend], [type, raw]);
    });
  }

  const cidr = 'invalid IPv4 CIDR format';
  const address = 'invalid IP address format';
  const notWhole = 'expected a whole number';
  const unreadable: [string, ...string[]][] = [
    ['', 'invalid JSON at line 1, column 1'],
    ['{"Network":"10.3.0.0/16"} x', 'invalid JSON', 'the end of the text'],
    ['{"Network":"10.3.0.0/16",}', 'invalid JSON', 'a member name'],
    ['{"Network":"10.3.0.0/16" /* c */}', 'invalid JSON'],
    ['[]', 'type array', 'JSON object'],
    ['{"Network":null}', cidr, 'Network', '"10.5.0.0/16"'],
    ['{"Network":""}', cidr, 'Network'],
    ['{"Network":"10.3.0.0"}', cidr, 'Network'],
    ['{"Network":"fc00::/48"}', cidr, 'Network is "fc00::/48"'],
    ['{"Network":"10.3.0.0/33"}', cidr],
    ['{"Network":5}', cidr],
    ['{"Network":{"a":\n1}}', cidr, '{"a":1}'],
    ['{"Network":null,"Network":"10.3.0.0/16"}', cidr],
    ['{"Network":"10.3.0.0/16","SubnetMin":null}', address, 'SubnetMin'],
    ['{"Network":"10.3.0.0/16","SubnetMax":null}', address, 'SubnetMax'],
    ['{"Network":"10.3.0.0/16","SubnetMax":"fc00::"}', address, 'SubnetMax is "fc00::"'],
    ['{"Network":"10.3.0.0/16","SubnetMin":""}', address],
    ['{"SubnetLen":24.0}', 'SubnetLen is 24.0', notWhole],
    ['{"SubnetLen":2.4e1}', 'SubnetLen', notWhole],
    ['{"SubnetLen":-1}', 'SubnetLen', notWhole],
    ['{"SubnetLen":"24"}', 'SubnetLen is "24"', notWhole],
    ['{"IPv6SubnetLen":64.0}', 'IPv6SubnetLen', notWhole],
    ['{"IPv6Network":null}', 'IPv6Network', 'expected an IPv6 network'],
    ['{"IPv6Network":"fc00::/129"}', 'IPv6Network'],
    ['{"IPv6SubnetMin":"x"}', 'IPv6SubnetMin', 'expected an IPv6 address'],
    ['{"EnableIPv4":"true"}', 'EnableIPv4', 'expected true or false'],
    ['{"EnableIPv6":1}', 'EnableIPv6', 'expected true or false'],
    ['{"EnableNFTables":[]}', 'EnableNFTables', 'expected true or false'],
    ['{"Backend":"udp"}', 'error decoding Backend property of config: ', 'Backend is of type string'],
    ['{"Backend":{"Type":5}}', 'error decoding Backend property of config: ', 'Type is 5'],
  ];
  for (const [text, ...words] of unreadable) {
    test(`refuses ${JSON.stringify(text)}`, () => {
      refuses(text, ...words);
    });
  }
});

describe('parseNetworkConfig: defaults and checks', () => {
  const ranges: [object, string][] = [
    [{ Network: '10.3.0.0/16' }, '10.3.0.0/16 24 10.3.1.0 10.3.255.0'],
    [{ Network: '10.0.0.0/22' }, '10.0.0.0/22 24 10.0.1.0 10.0.3.0'],
    [{ Network: '10.0.0.0/23' }, '10.0.0.0/23 25 10.0.0.128 10.0.1.128'],
    [{ Network: '10.0.0.0/28' }, '10.0.0.0/28 30 10.0.0.4 10.0.0.12'],
    [{ Network: '10.0.0.0/8', SubnetLen: 30 }, '10.0.0.0/8 30 10.0.0.4 10.255.255.252'],
    [{ Network: '10.0.0.0/16', SubnetLen: 18 }, '10.0.0.0/16 18 10.0.64.0 10.0.192.0'],
    [{ Network: '255.255.0.0/16' }, '255.255.0.0/16 24 255.255.1.0 255.255.255.0'],
    [
      { Network: '10.3.0.0/16', SubnetMin: '0.0.0.0', SubnetMax: '0.0.0.0', SubnetLen: 0 },
      '10.3.0.0/16 24 10.3.1.0 10.3.255.0',
    ],
    [
      { Network: '10.3.0.0/16', SubnetMin: '10.3.9.0', SubnetMax: '10.3.8.0' },
      '10.3.0.0/16 24 10.3.9.0 10.3.8.0',
    ],
    [{ Network: '10.3.0.0/16', SubnetMin: '10.3.0.0' }, '10.3.0.0/16 24 10.3.0.0 10.3.255.0'],
  ];
  for (const [config, range] of ranges) {
    test(JSON.stringify(config), () => {
      assert.equal(rangeOf(config), range);
    });
  }

  const ipv6Ranges: [object, string][] = [
    [{ IPv6Network: 'fc00::/48' }, 'fc00::/48 64 fc00:0:0:1:: fc00:0:0:ffff::'],
    [{ IPv6Network: 'fc00::/62' }, 'fc00::/62 64 fc00:0:0:1:: fc00:0:0:3::'],
    [{ IPv6Network: 'fc00::/63' }, 'fc00::/63 65 fc00::8000:0:0:0 fc00:0:0:1:8000::'],
    [{ IPv6Network: 'fc00::/124' }, 'fc00::/124 126 fc00::4 fc00::c'],
    [
      { IPv6Network: 'fc00:1:2:3::/48', IPv6SubnetLen: 56 },
      'fc00:1:2::/48 56 fc00:1:2:100:: fc00:1:2:ff00::',
    ],
    [
      { IPv6Network: '2000::/3', IPv6SubnetLen: 126 },
      '2000::/3 126 2000::4 3fff:ffff:ffff:ffff:ffff:ffff:ffff:fffc',
    ],
    [{ IPv6Network: 'ffff::/16' }, 'ffff::/16 64 ffff:0:0:1:: ffff:ffff:ffff:ffff::'],
    [
      { IPv6Network: 'fc00::/48', IPv6SubnetMin: '::', IPv6SubnetMax: null, IPv6SubnetLen: null },
      'fc00::/48 64 fc00:0:0:1:: fc00:0:0:ffff::',
    ],
    [
      { IPv6Network: 'fc00::/48', IPv6SubnetMin: 'FC00:0:0:0::', IPv6SubnetMax: 'fc00:0:0:7::' },
      'fc00::/48 64 fc00:: fc00:0:0:7::',
    ],
    [
      { IPv6Network: 'fc00::/48', IPv6SubnetMin: 'fc00:0:0:9::', IPv6SubnetMax: 'fc00:0:0:8::' },
      'fc00::/48 64 fc00:0:0:9:: fc00:0:0:8::',
    ],
  ];
  for (const [config, range] of ipv6Ranges) {
    test(JSON.stringify(config), () => {
      assert.equal(ipv6RangeOf(config), range);
    });
  }

  test('both families', () => {
    const both = { EnableIPv6: true, Network: '10.3.0.0/16', IPv6Network: 'fc00::/48' };
    assert.equal(rangeOf(both), '10.3.0.0/16 24 10.3.1.0 10.3.255.0');
    assert.equal(ipv6RangeOf({ ...both, EnableIPv4: true }), 'fc00::/48 64 fc00:0:0:1:: fc00:0:0:ffff::');
  });

  test('nothing is asked of a family that is not enabled', () => {
    const bad = { Network: '10.3.0.0/30', SubnetMin: '1.2.3.4', SubnetLen: 99 };
    assert.equal(
      ipv6RangeOf({ ...bad, IPv6Network: 'fc00::/48' }),
      'fc00::/48 64 fc00:0:0:1:: fc00:0:0:ffff::',
    );
    const v6 = { IPv6Network: 'fc00::/127', IPv6SubnetLen: 3, IPv6SubnetMax: '1::' };
    assert.equal(rangeOf({ Network: '10.3.0.0/16', ...v6 }), '10.3.0.0/16 24 10.3.1.0 10.3.255.0');
    // Whoever selects the addresses refuses this one, as flannel does.
    const neither = parseNetworkConfig('{"EnableIPv4":false}');
    assert.deepEqual([neither.enableIPv4, neither.enableIPv6], [false, false]);
  });

  test('Kubernetes gives the subnets: nothing is asked of them or filled in', () => {
    const config = parseKubeNetworkConfig(
      '{"EnableIPv6":true,"Network":"10.3.0.0/30","IPv6Network":"fc00::/127","IPv6SubnetMin":"1::1"}',
    );
    assert.deepEqual([config.subnetMin, config.subnetLen, config.ipv6SubnetLen], [0, 0, 0]);
    assert.deepEqual([config.ipv6SubnetMin, config.ipv6SubnetMax], ['1::1', '::']);
  });

  const fourSubnets = 'network must be able to accommodate at least four subnets';
  const refused: [string, ...string[]][] = [
    ['null', 'please define a correct Network parameter in the flannel config'],
    ['{}', 'please define a correct Network parameter in the flannel config', '"Network":"10.5.0.0/16"'],
    ['{"Network":"0.0.0.0/0"}', 'please define a correct Network parameter in the flannel config'],
    ['{"Network":"10.3.0.0/16","SubnetLen":31}', 'SubnetLen must be less than /31', 'expected 18 to 30'],
    ['{"Network":"10.3.0.0/16","SubnetLen":99999999999999999999}', 'SubnetLen must be less than /31'],
    ['{"Network":"10.3.0.0/16","SubnetLen":17}', fourSubnets, 'SubnetLen is 17', 'expected 18 to 30'],
    ['{"Network":"10.3.0.0/29","SubnetLen":30}', fourSubnets, 'expected a Network of /28 or larger'],
    [
      '{"Network":"10.3.0.0/29"}',
      'network is too small. Minimum useful network prefix is /28',
      '10.3.0.0/29',
    ],
    [
      '{"Network":"10.3.0.0/16","SubnetMin":"10.4.0.0"}',
      'SubnetMin is not in the range of the Network',
      '10.4.0.0',
      '10.3.255.255',
    ],
    [
      '{"Network":"10.3.0.0/16","SubnetMax":"10.2.0.0"}',
      'SubnetMax is not in the range of the Network',
      '10.2.0.0',
    ],
    [
      '{"Network":"10.3.0.0/16","SubnetMin":"10.3.1.1"}',
      'SubnetMin is not on a SubnetLen boundary: 10.3.1.1',
      '10.3.1.0',
    ],
    [
      '{"Network":"10.3.0.0/16","SubnetMax":"10.3.9.4"}',
      'SubnetMax is not on a SubnetLen boundary: 10.3.9.4',
      '10.3.9.0',
    ],
    [
      '{"Network":"10.3.0.0/16","SubnetMin":"10.3.1.1","SubnetMax":"10.2.0.0"}',
      'SubnetMax is not in the range',
    ],
  ];
  for (const [text, ...words] of refused) {
    test(`refuses ${text}`, () => {
      refuses(text, ...words);
    });
  }

  const v6 = (members: string) => `{"EnableIPv4":false,"EnableIPv6":true,${members}}`;
  const noNetwork = 'please define a correct IPv6Network parameter in the flannel config';
  const ipv6Refused: [string, ...string[]][] = [
    [v6('"Network":"10.3.0.0/16"'), noNetwork, '"IPv6Network":"fd00:5::/48"'],
    [v6('"IPv6Network":"::/0"'), noNetwork],
    [v6('"IPv6Network":"10.3.0.0/16"'), noNetwork],
    [
      v6('"IPv6Network":"fc00::/48","IPv6SubnetLen":127'),
      'SubnetLen must be less than /127: IPv6SubnetLen is 127',
      'expected 50 to 126',
    ],
    [v6('"IPv6Network":"fc00::/48","IPv6SubnetLen":49'), fourSubnets, 'IPv6SubnetLen is 49', 'fc00::/48'],
    [
      v6('"IPv6Network":"fc00::/125","IPv6SubnetLen":126'),
      fourSubnets,
      'expected an IPv6Network of /124 or larger',
    ],
    [
      v6('"IPv6Network":"fc00::/125"'),
      'IPv6Network is too small. Minimum useful network prefix is /124',
      'fc00::/125',
    ],
    [
      v6('"IPv6Network":"fc00::/48","IPv6SubnetMin":"fc00:0:1::"'),
      'IPv6SubnetMin is not in the range of the IPv6Network',
      'fc00:0:1::',
      'fc00::ffff:ffff:ffff:ffff:ffff',
    ],
    [
      v6('"IPv6Network":"fc00::/48","IPv6SubnetMax":"fb00::"'),
      'IPv6SubnetMax is not in the range of the IPv6Network',
      'fb00::',
    ],
    [
      v6('"IPv6Network":"fc00::/48","IPv6SubnetMin":"fc00:0:0:1::1"'),
      'IPv6SubnetMin is not on a SubnetLen boundary: fc00:0:0:1::1',
      'a /64, such as fc00:0:0:1::',
    ],
    [
      v6('"IPv6Network":"fc00::/48","IPv6SubnetMax":"fc00:0:0:9:8000::"'),
      'IPv6SubnetMax is not on a SubnetLen boundary: fc00:0:0:9:8000::',
    ],
    [
      v6('"IPv6Network":"fc00::/48","IPv6SubnetMin":"fc00::1","IPv6SubnetMax":"fb00::"'),
      'IPv6SubnetMax is not in the range',
    ],
    ['{"EnableIPv6":true,"IPv6Network":"fc00::/48"}', 'please define a correct Network parameter'],
    ['{"EnableIPv6":true,"Network":"10.3.0.0/16"}', noNetwork],
    ['{"EnableIPv6":true,"Network":"10.3.0.0/29","IPv6Network":"fc00::/125"}', 'network is too small', '/28'],
  ];
  for (const [text, ...words] of ipv6Refused) {
    test(`refuses ${text}`, () => {
      refuses(text, ...words);
    });
  }

  test('flannel messages come first', () => {
    assert.throws(() => parseNetworkConfig('{}'), /^ConfigError: please define a correct Network parameter/);
    assert.throws(() => parseNetworkConfig('{"Network":"x"}'), /^ConfigError: invalid IPv4 CIDR format: /);
  });

  test('defaults are subnets inside the network, whatever it is', () => {
    fc.assert(
      fc.property(fc.nat({ max: 0xffffffff }), fc.integer({ min: 1, max: 28 }), (ip, length) => {
        const config = parseNetworkConfig(JSON.stringify({ Network: `${formatIp4(ip)}/${length}` }));
        assert(config.network.contains(config.subnetMin) && config.network.contains(config.subnetMax));
        assert(config.subnetMin > config.network.ip && config.subnetMin <= config.subnetMax);
        assert.equal(config.subnetMax % 2 ** (32 - config.subnetLen), 0);
      }),
    );
  });

  test('IPv6 defaults are subnets inside the network, whatever it is', () => {
    fc.assert(
      fc.property(fc.ipV6(), fc.integer({ min: 1, max: 124 }), (ip, length) => {
        const config = parseNetworkConfig(
          JSON.stringify({ EnableIPv4: false, EnableIPv6: true, IPv6Network: `${ip}/${length}` }),
        );
        const { ipv6Network: network, ipv6SubnetMin: min, ipv6SubnetMax: max, ipv6SubnetLen } = config;
        assert(network?.contains(min) === true && network.contains(max));
        assert.notEqual(min, network.ip);
        assert.ok(ip6ToNumber(min) < ip6ToNumber(max));
        for (const bound of [min, max]) assert.equal(new Cidr6(bound, ipv6SubnetLen).network().ip, bound);
      }),
    );
  });

  test('garbage never gives anything but a ConfigError', () => {
    const names = [
      ...['Network', 'SubnetLen', 'SubnetMin', 'SubnetMax', 'Backend', 'EnableIPv4'],
      ...['EnableIPv6', 'IPv6Network', 'IPv6SubnetLen', 'IPv6SubnetMin', 'IPv6SubnetMax'],
    ];
    const values = fc.oneof(
      fc.jsonValue(),
      fc.constantFrom('10.3.0.0/16', '10.3.1.0', 24, '10.0.0.0/30', 'fd00::/48', 'fd00::', true),
    );
    const almost = fc.dictionary(fc.constantFrom(...names), values).map((value) => JSON.stringify(value));
    fc.assert(
      fc.property(fc.oneof(almost, fc.json(), fc.string()), (text) => {
        try {
          parseNetworkConfig(text);
        } catch (error) {
          assert(error instanceof ConfigError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
