/** The CNI plugin's inputs: subnet.env, its own config, and the config that its delegate gets out of them. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { networkContains, networkOf } from '../../src/cni/cidr.js';
import { canonicalJson, delegateConf } from '../../src/cni/delegate-conf.js';
import { readNetConf } from '../../src/cni/net-conf.js';
import { withGateways } from '../../src/cni/previous-result.js';
import { parseSubnetEnv } from '../../src/cni/subnet-env.js';
import { FlannelError } from '../../src/errors.js';
import { parseJsonObject } from '../../src/gojson.js';

const V4 = 'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n';
const V6 = 'FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\n';
const REST = 'FLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n';

const parse = (text: string) => parseSubnetEnv(text, 'subnet.env');
const netConf = (conf: unknown) => readNetConf(parseJsonObject(JSON.stringify(conf), 'config'));

function delegated(conf: Record<string, unknown> & { cniVersion?: string }, env = V4 + REST): unknown {
  const given = { name: 'cni-flannel', type: 'flannel', ...conf };
  const request = { network: 'cni-flannel', cniVersion: conf.cniVersion ?? '' };
  return JSON.parse(canonicalJson(delegateConf(request, netConf(given), parse(env))));
}

describe('subnet.env', () => {
  test('is read with both families, lists of networks and host bits', () => {
    assert.deepEqual(parse(V4 + V6 + REST), {
      networks: ['10.1.0.0/16', 'fd00::/48'],
      subnets: ['10.1.17.0/24', 'fd00:0:0:1::/64'],
      mtu: 1472,
      ipMasq: true,
    });
    const list = V4.replace('10.1.0.0/16', '10.1.0.0/16,10.2.3.4/16,10.1.0.0/16');
    assert.deepEqual(parse(list + REST).networks, ['10.1.0.0/16', '10.2.0.0/16']);
    assert.equal(parse(V4 + 'FLANNEL_MTU=1\nFLANNEL_IPMASQ=TRUE\nOTHER\n# no comment\n').ipMasq, false);
  });

  const all =
    'FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ';
  for (const [text, message] of [
    ['', `subnet.env is missing ${all}`],
    [V4, 'subnet.env is missing FLANNEL_MTU, FLANNEL_IPMASQ'],
    [V6 + 'FLANNEL_MTU=1\n', 'subnet.env is missing FLANNEL_IPMASQ'],
    ['FLANNEL_MTU\n', 'subnet.env: FLANNEL_MTU has no value, expected FLANNEL_MTU=…'],
    [
      V4 + 'FLANNEL_MTU=-1\nFLANNEL_IPMASQ=true',
      'subnet.env: FLANNEL_MTU is "-1", expected a number of bytes',
    ],
    ['FLANNEL_SUBNET=fd00::1/64', 'subnet.env: FLANNEL_SUBNET has "fd00::1/64", expected an IPv4 CIDR'],
    [
      'FLANNEL_NETWORK="10.0.0.0/8"',
      'subnet.env: FLANNEL_NETWORK has "\\"10.0.0.0/8\\"", expected an IPv4 CIDR',
    ],
  ] as const) {
    test(`is refused: ${message}`, () => {
      assert.throws(() => parse(text), { message });
    });
  }

  test('of any content is read or refused', () => {
    const line = fc.tuple(
      fc.constantFrom('FLANNEL_NETWORK', 'FLANNEL_IPV6_SUBNET', 'FLANNEL_MTU', 'x'),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        try {
          parse(lines.map((pair) => pair.join('=')).join('\n'));
        } catch (error) {
          assert.ok(error instanceof FlannelError);
        }
      }),
    );
  });
});

describe('networks of both families', () => {
  test('lose their host bits', () => {
    assert.equal(networkOf('fd12:3456:789a:bcde:f012::1/52', 6), 'fd12:3456:789a:b000::/52');
    assert.equal(networkOf('ffff:ffff::/0', 6), '::/0');
    assert.equal(networkOf('FD00::1/128', 6), 'fd00::1/128');
    for (const text of ['fd00::1', 'fd00::/129', 'fd00::/1x', '10.0.0.0/8', ''])
      assert.equal(networkOf(text, 6), undefined);
  });

  test('contain what has their prefix', () => {
    assert.ok(
      networkContains('10.1.17.0/24', '10.1.17.9/24') && networkContains('fd00:0:0:1::/64', 'fd00:0:0:1::9'),
    );
    assert.ok(
      !networkContains('10.1.17.0/24', '10.1.18.9') && !networkContains('10.1.17.0/24', 'fd00::1/64'),
    );
    assert.ok(!networkContains('fd00:0:0:1::/64', 'fd00:0:0:2::9/64'));
  });
});

describe("the delegate's config", () => {
  const ipam = {
    type: 'host-local',
    ranges: [[{ subnet: '10.1.17.0/24' }]],
    routes: [{ dst: '10.1.0.0/16' }],
  };
  const bridge = { name: 'cni-flannel', type: 'bridge', ipMasq: false, isGateway: true, mtu: 1472, ipam };

  test('is a gateway bridge with the leased subnet by default', () => {
    assert.deepEqual(delegated({}), bridge);
    assert.deepEqual(delegated({}, V4 + REST.replace('true', 'false')), { ...bridge, ipMasq: true });
  });

  test('keeps what the user gives, case of the keys aside', () => {
    const delegate = { mtu: 1400, ipMasq: true, isGateway: false, hairpinMode: true };
    assert.deepEqual(delegated({ Delegate: delegate, cniVersion: '1.0.0' }), {
      ...bridge,
      ...delegate,
      cniVersion: '1.0.0',
    });
    const ptp = { name: 'cni-flannel', type: 'ptp', ipMasq: false, mtu: 1472, ipam };
    assert.deepEqual(delegated({ delegate: { type: 'ptp' } }), ptp);
    const runtimeConfig = { mac: '00:11:22:33:44:55' };
    assert.deepEqual(delegated({ runtimeConfig }), { ...bridge, runtimeConfig });
  });

  test('has the ipam of the user, but ranges of the lease', () => {
    const given = { type: 'other', keep: 1, ranges: [], routes: [{ dst: '192.0.2.0/24', gw: '10.1.17.1' }] };
    assert.deepEqual(delegated({ ipam: given }, V4 + V6 + REST), {
      ...bridge,
      ipam: {
        type: 'other',
        keep: 1,
        ranges: [[{ subnet: '10.1.17.0/24' }], [{ subnet: 'fd00:0:0:1::/64' }]],
        routes: [{ dst: '192.0.2.0/24', gw: '10.1.17.1' }, { dst: '10.1.0.0/16' }, { dst: 'fd00::/48' }],
      },
    });
  });

  test('cannot be made of routes that are none', () => {
    for (const routes of ['10.0.0.0/8', [{ gw: '10.0.0.1' }], { dst: 'x' }]) {
      assert.throws(
        () => delegated({ ipam: { routes } }),
        /^FlannelError: ipam\.routes is .*, expected a list/,
      );
    }
  });
});

test("flannel's own config: what is refused, and the defaults", () => {
  const defaults = netConf({});
  assert.equal(defaults.subnetFile, '/run/flannel/subnet.env');
  assert.equal(defaults.dataDir, '/var/lib/cni/flannel');
  for (const [conf, message] of [
    [{ subnetFile: 1 }, /^failed to load flannel netconf file: subnetFile is 1, expected a path in quotes$/],
    [{ delegate: [] }, /: delegate is \[\], expected an object$/],
    [{ delegate: { type: 1 } }, /must have \(string\) 'type' field$/],
    [{ delegate: { name: 'x' } }, /must not have 'name' field/],
    [{ delegate: { ipam: {} } }, /must not have 'ipam' field/],
  ] as const) {
    assert.throws(() => netConf(conf), { message });
  }
});

test('a previous result gets the gateways that its routes imply', () => {
  const ips = [{ address: '10.1.17.2/24', gateway: '10.1.17.1' }, { address: 'fd00::2/64' }];
  const routes = [{ dst: '10.1.0.0/16' }, { dst: '0.0.0.0/0', gw: '10.1.17.9' }, { dst: 'fd00::/48' }];
  assert.deepEqual(withGateways({ ips, routes }), {
    ips,
    routes: [{ dst: '10.1.0.0/16', gw: '10.1.17.1' }, routes[1], routes[2]],
  });
  assert.deepEqual(withGateways({}), {});
});
