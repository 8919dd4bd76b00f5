import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { NetworkConfig } from '../../src/config.js';
import { FlannelError } from '../../src/errors.js';
import { Cidr4 } from '../../src/ip.js';
import { Cidr6 } from '../../src/ip6.js';
import { LeaseTracker } from '../../src/lease/tracker.js';
import { formatSubnetKey } from '../../src/lease/subnet-key.js';
import { annotationNames } from '../../src/subnet/kube/annotations.js';
import { isInside, leaseOf, readNode, subnetOf } from '../../src/subnet/kube/node.js';
import type { KubeNode } from '../../src/subnet/kube/node.js';
import { NodeTable } from '../../src/subnet/kube/node-table.js';
import type { NodeEntry } from '../../src/subnet/kube/node-table.js';
import { attrsOf, bothOf, captureLog } from '../lib/store.js';

const NAMES = annotationNames('flannel.alpha.coreos.com');
const ANNOUNCED = {
  [NAMES.manager]: 'true',
  [NAMES.backendType]: '',
  [NAMES.backendData]: 'null',
  [NAMES.publicIp]: '192.0.2.1',
};

const V4 = { enableIPv4: true, enableIPv6: false };
const V6 = { enableIPv4: false, enableIPv6: true };
const DUAL = { enableIPv4: true, enableIPv6: true };

function cidr(text: string): Cidr4 {
  const parsed = Cidr4.parse(text);
  assert.ok(parsed, text);
  return parsed;
}

function cidr6(text: string): Cidr6 {
  const parsed = Cidr6.parse(text);
  assert.ok(parsed, text);
  return parsed;
}

function node(spec: unknown, annotations: unknown = ANNOUNCED, name = 'n1'): KubeNode {
  const read = readNode({ metadata: { name, resourceVersion: '7', annotations }, spec });
  assert.ok(read);
  return read;
}

describe('whether a pod CIDR lies in the network', () => {
  const table = [
    ['10.244.1.0/24', '10.244.0.0/16', true],
    ['10.244.0.0/16', '10.244.0.0/16', true],
    ['10.244.255.0/24', '10.244.0.0/16', true],
    ['10.240.0.0/12', '10.244.0.0/16', false],
    ['10.245.0.0/24', '10.244.0.0/16', false],
    ['10.244.0.0/15', '10.244.0.0/16', false],
    ['192.168.0.0/24', '10.0.0.0/8', false],
    ['10.1.2.3/32', '10.0.0.0/8', true],
  ] as const;
  for (const [inner, outer, inside] of table) {
    test(`${inner} in ${outer}: ${inside ? 'yes' : 'no'}`, () => {
      assert.equal(isInside(cidr(inner), cidr(outer)), inside);
    });
  }

  test('IPv6 likewise', () => {
    const inside = (inner: string, outer: string) => isInside(cidr6(inner), cidr6(outer));
    assert.ok(inside('fd00:1:2::/64', 'fd00:1::/32'));
    assert.ok(inside('fd00:1::/32', 'fd00:1::/32'));
    assert.ok(!inside('fd00::/16', 'fd00:1::/32'));
    assert.ok(!inside('fd00:2::/64', 'fd00:1::/32'));
  });
});

describe('the subnet that a node gets', () => {
  const networks: Pick<NetworkConfig, 'network' | 'ipv6Network'> = {
    network: cidr('10.244.0.0/16'),
    ipv6Network: cidr6('fd00:244::/32'),
  };
  const keyOf = (spec: unknown, families: typeof V4) =>
    formatSubnetKey(subnetOf(node(spec), { ...networks, ...families }));
  const refuses = (
    families: typeof V4,
    spec: unknown,
    pattern: RegExp,
    given: Partial<typeof networks> = {},
  ) => {
    assert.throws(
      () => subnetOf(node(spec), { ...networks, ...families, ...given }),
      (error: Error) => {
        assert.ok(error instanceof FlannelError);
        assert.match(error.message, pattern);
        return true;
      },
    );
  };

  test('and what can be wrong with its pod CIDR', () => {
    refuses(V4, {}, /^node "n1" pod cidr not assigned/);
    refuses(V4, { podCIDR: '' }, /pod cidr not assigned/);
    refuses(V4, { podCIDR: '10.1.0.0/24' }, /doesn't contain "10\.1\.0\.0\/24" PodCIDR of the "n1" node/);
    refuses(V4, { podCIDR: '10.244.1.0/24' }, /doesn't contain/, { network: cidr('0.0.0.0/0') });
    refuses(V4, { podCIDR: 'fd00:1::/64' }, /no IPv4 pod CIDR/);
    refuses(V4, { podCIDR: 'x' }, /the pod CIDR "x", which is none/);
    const three = ['10.244.1.0/24', 'fd00:244::/64', '10.244.2.0/24'];
    refuses(V4, { podCIDR: three[0], podCIDRs: three }, /has 3 pod CIDRs; expected one or two/);
  });

  test('and with its IPv6 one', () => {
    const outside =
      /^subnet "fd00:244::\/32" specified in the flannel net config doesn't contain "fd00:1::\/64" IPv6 PodCIDR of the "n1" node/;
    const both = ['10.244.1.0/24', 'fd00:1::/64'];
    refuses(DUAL, { podCIDR: both[0], podCIDRs: both }, outside);
    refuses(V6, { podCIDR: 'fd00:1::/64' }, outside);
    refuses(V6, { podCIDR: 'fd00:244::/64' }, /^subnet "::\/0" specified/, { ipv6Network: null });
    refuses(DUAL, { podCIDR: '10.244.1.0/24' }, /no IPv6 pod CIDR; give it one, or set EnableIPv6 to false/);
    refuses(V6, { podCIDR: '10.244.1.0/24' }, /no IPv6 pod CIDR/);
  });

  test('is of the families that are carried, in whichever order they stand', () => {
    const spec = { podCIDR: 'fd00:244:1::/64', podCIDRs: ['fd00:244:1::/64', '10.244.9.0/24'] };
    assert.equal(keyOf(spec, V4), '10.244.9.0-24');
    assert.equal(keyOf(spec, DUAL), '10.244.9.0-24&fd00:244:1::-64');
    assert.equal(keyOf(spec, V6), '0.0.0.0-0&fd00:244:1::-64');
    assert.equal(keyOf({ podCIDR: 'fd00:244:2::/64' }, V6), '0.0.0.0-0&fd00:244:2::-64');
  });
});

describe('the lease of a node', () => {
  const spec = { podCIDR: '10.244.1.0/24' };
  const dualSpec = { podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24', 'fd00:244:1::/64'] };

  test('is what it announces', () => {
    const { subnet, ...rest } = leaseOf(node(spec), NAMES, V4);
    assert.ok(subnet);
    assert.equal(formatSubnetKey(subnet), '10.244.1.0-24');
    assert.deepEqual(rest, { attrs: attrsOf('192.0.2.1') });
    const more = {
      ...ANNOUNCED,
      [NAMES.backendType]: 'vxlan',
      [NAMES.backendData]: '{"VNI":1}',
      [NAMES.backendV6Data]: '{"VNI":2}',
      [NAMES.publicIpV6]: 'FD00:0::1',
    };
    const other = leaseOf(node(spec, more), NAMES, V4);
    assert.ok(other.subnet);
    assert.deepEqual(
      other.attrs,
      attrsOf('192.0.2.1', {
        backendType: 'vxlan',
        backendData: '{"VNI":1}',
        backendV6Data: '{"VNI":2}',
        publicIpV6: 'fd00::1',
      }),
    );
  });

  test('is none without a word where nobody has claimed that', () => {
    for (const manager of [undefined, 'false', 'TRUE', true, '']) {
      const annotations = { ...ANNOUNCED, [NAMES.manager]: manager };
      assert.deepEqual(leaseOf(node(spec, annotations), NAMES, V4), { subnet: null, problem: null });
    }
  });

  test('is none for a reason else', () => {
    const problem = (s: unknown, annotations: unknown = ANNOUNCED) => {
      const lease = leaseOf(node(s, annotations), NAMES, V4);
      assert.equal(lease.subnet, null);
      return lease.problem ?? '';
    };
    assert.match(
      problem(spec, { ...ANNOUNCED, [NAMES.publicIp]: 'x' }),
      /public-ip is "x", which is no IPv4/,
    );
    assert.match(problem({}), /no IPv4 pod CIDR/);
    assert.match(problem({ podCIDR: '1.2.3' }), /which is none/);
  });

  test('is of both families where both are carried, else of the one', () => {
    const both = { ...ANNOUNCED, [NAMES.publicIpV6]: '2001:db8::1', [NAMES.backendV6Data]: '{}' };
    const keyOf = (s: unknown, families: typeof V4, annotations: unknown = both) => {
      const { subnet } = leaseOf(node(s, annotations), NAMES, families);
      return subnet === null ? null : formatSubnetKey(subnet);
    };
    assert.equal(keyOf(dualSpec, DUAL), '10.244.1.0-24&fd00:244:1::-64');
    assert.equal(keyOf(dualSpec, V4), '10.244.1.0-24');
    assert.equal(keyOf(dualSpec, V6), '0.0.0.0-0&fd00:244:1::-64');
    assert.equal(keyOf(spec, DUAL), '10.244.1.0-24');
    assert.equal(keyOf(spec, V6), null);
    // A stock udp peer announces its IPv4 address alone.
    const stock = leaseOf(node(dualSpec), NAMES, DUAL);
    assert.ok(stock.subnet);
    assert.deepEqual(stock.attrs, attrsOf('192.0.2.1'));
  });

  test('of a node with IPv6 alone needs no IPv4 address', () => {
    const annotations = {
      ...{ [NAMES.manager]: 'true', [NAMES.backendType]: 'udp', [NAMES.backendV6Data]: '{}' },
      [NAMES.publicIpV6]: '2001:DB8::1',
    };
    const ipv6Spec = { podCIDR: 'fd00:244:1::/64' };
    const expected = attrsOf('0.0.0.0', {
      ...{ backendType: 'udp', backendV6Data: '{}', publicIpV6: '2001:db8::1' },
    });
    for (const publicIp of [undefined, '0.0.0.0', '192.0.2.1', 'x']) {
      const { subnet, ...rest } = leaseOf(
        node(ipv6Spec, { ...annotations, [NAMES.publicIp]: publicIp }),
        NAMES,
        V6,
      );
      assert.ok(subnet);
      assert.deepEqual(rest, { attrs: expected });
    }
    const none = leaseOf(node(ipv6Spec, { ...annotations, [NAMES.publicIpV6]: 'y' }), NAMES, V6);
    assert.deepEqual(none, {
      subnet: null,
      problem: `its annotation ${NAMES.publicIpV6} is "y", which is no IPv6 address`,
    });
  });

  test('is read out of anything without a crash', () => {
    const anything = fc.anything({ maxDepth: 4 });
    fc.assert(
      fc.property(anything, anything, anything, (metadata, nodeSpec, annotations) => {
        for (const object of [metadata, { metadata: { name: 'n', annotations }, spec: nodeSpec }]) {
          const read = readNode(object);
          if (read === null) continue;
          for (const families of [V4, V6, DUAL]) leaseOf(read, NAMES, families);
        }
      }),
    );
  });
});

describe('the table of nodes', () => {
  const entry = (name: string, cidrText: string, ip: string): NodeEntry => {
    return entryOf(node({ podCIDR: cidrText }, { ...ANNOUNCED, [NAMES.publicIp]: ip }, name));
  };
  const entryOf = (read: KubeNode, families = V4): NodeEntry => {
    const { name } = read;
    const lease = leaseOf(read, NAMES, families);
    if (lease.subnet === null) return { name, lease: null, problem: lease.problem };
    return { name, lease: { ...lease, revision: '1', reservation: true, writer: 'unknown' }, problem: null };
  };
  const shown = (events: ReturnType<NodeTable['put']>) =>
    events.map((event) =>
      event.type === 'put'
        ? `${formatSubnetKey(event.lease.subnet)} at ${event.lease.revision}`
        : event.type === 'delete'
          ? `no ${formatSubnetKey(event.subnet)}`
          : 'snapshot',
    );

  test('a subnet that has passed on to another node stays when the first one goes', () => {
    const table = new NodeTable(() => null);
    table.replace([entry('a', '10.244.1.0/24', '192.0.2.1')]);
    assert.deepEqual(shown(table.put(entry('b', '10.244.1.0/24', '192.0.2.2'))), ['10.244.1.0-24 at 1']);
    assert.deepEqual(shown(table.delete('a')), ['10.244.1.0-24 at 1']);
    assert.deepEqual(shown(table.delete('b')), ['no 10.244.1.0-24']);
    assert.deepEqual(shown(table.delete('b')), []);
  });

  test('a node that moves leaves its subnet', () => {
    const table = new NodeTable(() => null);
    table.put(entry('a', '10.244.1.0/24', '192.0.2.1'));
    assert.deepEqual(shown(table.put(entry('a', '10.244.2.0/24', '192.0.2.1'))), [
      'no 10.244.1.0-24',
      '10.244.2.0-24 at 1',
    ]);
    assert.deepEqual(shown(table.put({ name: 'a', lease: null, problem: null })), ['no 10.244.2.0-24']);
  });

  describe('where nodes have one pod CIDR in common', () => {
    const both = { ...ANNOUNCED, [NAMES.backendV6Data]: '{}' };
    const dual = (name: string, ...podCIDRs: string[]) => entryOf(node({ podCIDRs }, both, name), DUAL);
    const [x4, y4, x6, y6] = ['10.244.1.0/24', '10.244.2.0/24', 'fd00:244:1::/64', 'fd00:244:2::/64'];

    for (const [family, a, b, left, all] of [
      ['IPv4', [x4, x6], [x4, y6], '0.0.0.0-0&fd00:244:1::-64', '10.244.1.0-24&fd00:244:2::-64'],
      ['IPv6', [x4, x6], [y4, x6], '10.244.1.0-24', '10.244.2.0-24&fd00:244:1::-64'],
    ] as const) {
      test(`of ${family}, the last one to claim it has it, until it goes`, () => {
        const table = new NodeTable(() => null);
        const whole = '10.244.1.0-24&fd00:244:1::-64';
        table.replace([dual('a', ...a)]);
        const passedOn = [`no ${whole}`, `${left} at 1`, `${all} at 1`];
        assert.deepEqual(shown(table.put(dual('b', ...b))), passedOn);
        // What else happens to the node that had it changes nothing about that.
        assert.deepEqual(shown(table.put(dual('a', ...a))), [`${left} at 1`, `${all} at 1`]);
        assert.deepEqual(
          shown(table.delete('b')).sort(),
          [`${whole} at 1`, `no ${left}`, `no ${all}`].sort(),
        );
        const leases = table.replace([dual('a', ...a), dual('b', ...b)]);
        assert.deepEqual(
          leases.map(({ subnet }) => formatSubnetKey(subnet)),
          [left, all],
        );
        assert.deepEqual(shown(table.delete('a')), [`no ${left}`, `${all} at 1`]);
      });

      test(`of ${family}, and it is this host's, they have the other family alone`, () => {
        const lines = captureLog();
        const table = new NodeTable(() => bothOf(b.join(' ')));
        for (let i = 0; i < 3; i++) assert.deepEqual(shown(table.put(dual('a', ...a))), [`${left} at 1`]);
        assert.equal(lines.length, 1, lines.join(''));
        assert.match(
          lines[0] ?? '',
          new RegExp(`no ${family} packets to the node a: it has this node's pod`),
        );
      });
    }

    test('a node of one family has the other one left to it', () => {
      const table = new NodeTable(() => null);
      table.put(dual('a', x4, x6));
      assert.deepEqual(shown(table.put(dual('b', x4))), [
        'no 10.244.1.0-24&fd00:244:1::-64',
        '0.0.0.0-0&fd00:244:1::-64 at 1',
        '10.244.1.0-24 at 1',
      ]);
    });
  });

  test('a change of either family alone is one', () => {
    const spec = { podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24', 'fd00:244:1::/64'] };
    const first = { ...ANNOUNCED, [NAMES.publicIpV6]: '2001:db8::1', [NAMES.backendV6Data]: '{}' };
    const changes = [
      { [NAMES.publicIp]: '192.0.2.9' },
      { [NAMES.publicIpV6]: '2001:db8::9' },
      { [NAMES.backendData]: '{"Port":9001}' },
      { [NAMES.backendV6Data]: 'null' },
    ];
    for (const change of changes) {
      const table = new NodeTable(() => null);
      const tracker = new LeaseTracker('10.244.9.0-24');
      tracker.apply(table.put(entryOf(node(spec, first), DUAL)));
      const { added, changed, removed } = tracker.apply(
        table.put(entryOf(node(spec, { ...first, ...change }), DUAL)),
      );
      assert.deepEqual([added.length, changed.length, removed.length], [0, 1, 0], JSON.stringify(change));
    }
  });

  test('complains once about each problem, and about a claim to the own subnet', () => {
    const lines = captureLog();
    const table = new NodeTable(() => bothOf('10.244.9.0/24'));
    for (let i = 0; i < 3; i++) {
      assert.deepEqual(table.put(entry('bad', '10.244.1.0/24', 'x')), []);
      assert.deepEqual(table.put(entry('thief', '10.244.9.0/24', '192.0.2.9')), []);
    }
    assert.equal(lines.length, 2, lines.join(''));
    assert.match(lines[0] ?? '', /no packets to the node bad: its annotation/);
    assert.match(lines[1] ?? '', /no packets to the node thief: it has this node's pod CIDR/);
  });
});
