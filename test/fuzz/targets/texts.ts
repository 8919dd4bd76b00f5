/** Targets for what is read as text: configs, keys, values, flags. Garbage is refused in words, or means something. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parseNetworkConfig } from '../../../src/config.js';
import { ConfigError, FlannelError, UsageError } from '../../../src/errors.js';
import { parseFlags } from '../../../src/flags.js';
import { compactJson, parseJson } from '../../../src/gojson.js';
import { freeSubnets } from '../../../src/lease/allocate.js';
import { ownPortOf } from '../../../src/lease/identity.js';
import { formatLeaseValue, parseLeaseValue } from '../../../src/lease/lease-value.js';
import { formatSubnetKey, parseSubnetKey } from '../../../src/lease/subnet-key.js';
import { JSON_WORDS, soup } from '../../lib/soup.js';
import type { Target } from '../target.js';

/** A JSON object with some of these names, and values of any kind or one of `values`. */
function nearObject(names: readonly string[], values: readonly unknown[]): fc.Arbitrary<string> {
  const value = fc.oneof(fc.constantFrom(...values), fc.jsonValue());
  const name = fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...names) }, fc.string());
  const members = fc.array(fc.tuple(name, value), { maxLength: 8 });
  // Written by hand: names may repeat.
  return members.map(
    (all) => `{${all.map(([key, of]) => `${JSON.stringify(key)}:${JSON.stringify(of)}`).join(',')}}`,
  );
}

/** One or two bytes of a text changed. */
function mutated(text: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const change = fc.tuple(fc.nat(), fc.string({ minLength: 0, maxLength: 2, unit: 'binary' }));
  return fc.tuple(text, fc.array(change, { maxLength: 2 })).map(([whole, changes]) =>
    changes.reduce((before, [where, what]) => {
      const at = where % (before.length + 1);
      return before.slice(0, at) + what + before.slice(at + 1);
    }, whole),
  );
}

const ADDRESSES = [
  '10.3.0.0/16',
  '10.3.1.0',
  '10.0.0.0/30',
  '0.0.0.0/0',
  '255.255.255.255/32',
  '10.3.1.0/24',
];

/** Runs `read`; undefined when it throws what it may throw. */
function attempt<T>(read: () => T, ...may: (new (...args: never[]) => Error)[]): T | undefined {
  try {
    return read();
  } catch (error) {
    assert(
      may.some((kind) => error instanceof kind),
      `not an error in words: ${String(error)}`,
    );
    assert((error as Error).message.length > 0);
    return undefined;
  }
}

const CONFIG_NAMES = [
  'Network',
  'network',
  'SubnetLen',
  'SubnetMin',
  'SubnetMax',
  'Backend',
  'EnableIPv4',
  'EnableIPv6',
  'IPv6Network',
  'EnableNFTables',
];
const CONFIG_VALUES = [
  ...ADDRESSES,
  24,
  0,
  33,
  -1,
  2 ** 40,
  true,
  null,
  { Type: 'udp', Port: 8285 },
  'fd00::/48',
];

const netConf: Target = {
  name: 'net-config',
  property: fc.property(
    fc.oneof(mutated(nearObject(CONFIG_NAMES, CONFIG_VALUES)), fc.string({ unit: 'binary' })),
    (text) => {
      const config = attempt(() => parseNetworkConfig(text), ConfigError);
      if (config?.enableIPv4 !== true) return;
      // As in flannel, bounds that leave nothing between them are no mistake of the config: no host gets a subnet then.
      assert(config.subnetMin <= config.subnetMax || freeSubnets(config, []).length === 0);
      assert(config.network.contains(config.subnetMin) && config.network.contains(config.subnetMax));
      assert(config.subnetLen >= config.network.length && config.subnetLen <= 32);
      parseJson(config.backend);
    },
  ),
};

const subnetKey: Target = {
  name: 'subnet-key',
  property: fc.property(
    fc.oneof(
      soup('10.5.1.0', '-', '24', '&', 'fd00', ':', '::', '1', '.', '/', '0', '31', '32', ' '),
      mutated(fc.constantFrom('10.5.1.0-24', '10.5.1.0-24&fd00::-64', '0.0.0.0-0')),
      fc.string({ unit: 'binary' }),
    ),
    (key) => {
      const subnet = parseSubnetKey(key);
      if (subnet === undefined) return;
      assert(key.endsWith(formatSubnetKey(subnet)));
      assert(subnet.v4.length <= 31);
    },
  ),
};

const LEASE_NAMES = [
  'PublicIP',
  'PublicIPv6',
  'BackendType',
  'BackendData',
  'BackendV6Data',
  'publicip',
  'x',
];
const LEASE_VALUES = ['1.2.3.4', 'fd00::1', 'udp', null, { Port: 9001 }, { Port: 0 }, 'x', 1];

const leaseValue: Target = {
  name: 'lease-value',
  property: fc.property(
    fc.oneof(mutated(nearObject(LEASE_NAMES, LEASE_VALUES)), fc.string({ unit: 'binary' })),
    (text) => {
      const attrs = attempt(() => parseLeaseValue(text), FlannelError);
      if (attrs === undefined) return;
      const port = attempt(() => ownPortOf(attrs), FlannelError);
      assert(port === undefined || port === null || (port >= 1 && port <= 65535));
      // Once written, it stays as it is: what is raw JSON is escaped as Go escapes it.
      const written = formatLeaseValue(attrs);
      assert.equal(formatLeaseValue(parseLeaseValue(written)), written);
    },
  ),
};

const FLAG_PARTS = [
  ...['-v', '--iface', '-v=1', '--', 'x', '-', '--vmodule', 'a=1', '-h', '--udp-port=9001', '--subnet-dir'],
  ...[
    '--backend',
    'udp',
    '--dataplane-tier=full',
    '--dataplane-disable=gso,uso',
    '--dataplane-queues',
    '0x10',
  ],
  ...[
    '--etcd-endpoints=http://a:1,http://b',
    '--log_backtrace_at=a.ts:1',
    '--version=t',
    '1_0',
    '-iface=',
    '=',
  ],
];

const flags: Target = {
  name: 'flags',
  property: fc.property(
    fc.array(fc.oneof(mutated(fc.constantFrom(...FLAG_PARTS)), fc.constantFrom(...FLAG_PARTS)), {
      maxLength: 8,
    }),
    fc.dictionary(
      fc.constantFrom('FLANNELD_IFACE', 'FLANNELD_V', 'FLANNELD_UDP_PORT', 'FLANNELD_IP_MASQ', 'FLANNELD_X'),
      fc.oneof(fc.string(), fc.constantFrom('1', 'true', '9001')),
    ),
    (argv, env) => {
      attempt(() => parseFlags(argv, env), UsageError);
    },
  ),
};

const gojson: Target = {
  name: 'gojson',
  property: fc.property(
    fc.oneof(soup(...JSON_WORDS), mutated(fc.json()), fc.string({ unit: 'binary' })),
    (text) => {
      const value = attempt(() => parseJson(text), FlannelError);
      const isJson = attempt(() => [JSON.parse(text) as unknown], SyntaxError);
      assert.equal(value === undefined, isJson === undefined, 'it is JSON, or it is not');
      if (value === undefined) return;
      assert.equal(JSON.stringify(JSON.parse(compactJson(value.raw))), JSON.stringify(JSON.parse(text)));
    },
  ),
};

export const TEXT_TARGETS: readonly Target[] = [netConf, subnetKey, leaseValue, flags, gojson];
