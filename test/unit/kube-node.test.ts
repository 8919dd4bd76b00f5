import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FlannelError } from '../../src/errors.js';
import { Cidr4 } from '../../src/ip.js';
import { formatSubnetKey } from '../../src/lease/subnet-key.js';
import { annotationNames } from '../../src/subnet/kube/annotations.js';
import { annotationsFor, isInside, leaseOf, readNode, subnetOf } from '../../src/subnet/kube/node.js';
import type { KubeNode } from '../../src/subnet/kube/node.js';
import { NodeTable } from '../../src/subnet/kube/node-table.js';
import type { NodeEntry } from '../../src/subnet/kube/node-table.js';
import { attrsOf, captureLog } from '../lib/store.js';

const NAMES = annotationNames('flannel.alpha.coreos.com');
const ANNOUNCED = {
  [NAMES.manager]: 'true',
  [NAMES.backendType]: '',
  [NAMES.backendData]: 'null',
  [NAMES.publicIp]: '192.0.2.1',
};

function cidr(text: string): Cidr4 {
  const parsed = Cidr4.parse(text);
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

  const config = { network: cidr('10.244.0.0/16'), enableIPv6: false };
  const refuses = (spec: unknown, pattern: RegExp, network = config.network) => {
    assert.throws(
      () => subnetOf(node(spec), { network, enableIPv6: false }),
      (error: Error) => {
        assert.ok(error instanceof FlannelError);
        assert.match(error.message, pattern);
        return true;
      },
    );
  };

  test('and what else can be wrong with it', () => {
    refuses({}, /^node "n1" pod cidr not assigned/);
    refuses({ podCIDR: '' }, /pod cidr not assigned/);
    refuses({ podCIDR: '10.1.0.0/24' }, /doesn't contain "10\.1\.0\.0\/24" PodCIDR of the "n1" node/);
    refuses({ podCIDR: '10.244.1.0/24' }, /doesn't contain/, cidr('0.0.0.0/0'));
    refuses({ podCIDR: 'fd00:1::/64' }, /no IPv4 pod CIDR/);
    refuses({ podCIDR: 'x' }, /the pod CIDR "x", which is none/);
    const three = ['10.244.1.0/24', 'fd00::/64', '10.244.2.0/24'];
    refuses({ podCIDR: three[0], podCIDRs: three }, /has 3 pod CIDRs; expected one or two/);
  });

  test('of two the one of the family counts', () => {
    const spec = { podCIDR: 'fd00:0:1::/64', podCIDRs: ['fd00:0:1::/64', '10.244.9.0/24'] };
    assert.equal(formatSubnetKey(subnetOf(node(spec), config)), '10.244.9.0-24');
    const both = { ...config, enableIPv6: true };
    assert.equal(formatSubnetKey(subnetOf(node(spec), both)), '10.244.9.0-24&fd00:0:1::-64');
  });
});

describe('the lease of a node', () => {
  const v4 = { enableIPv6: false };
  const spec = { podCIDR: '10.244.1.0/24' };

  test('is what it announces', () => {
    const { subnet, ...rest } = leaseOf(node(spec), NAMES, v4);
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
    const other = leaseOf(node(spec, more), NAMES, v4);
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
      assert.deepEqual(leaseOf(node(spec, annotations), NAMES, v4), { subnet: null, problem: null });
    }
  });

  test('is none for a reason else', () => {
    const problem = (s: unknown, annotations: unknown = ANNOUNCED) => {
      const lease = leaseOf(node(s, annotations), NAMES, v4);
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

  test('is read out of anything without a crash', () => {
    const anything = fc.anything({ maxDepth: 4 });
    fc.assert(
      fc.property(anything, anything, anything, (metadata, nodeSpec, annotations) => {
        for (const object of [metadata, { metadata: { name: 'n', annotations }, spec: nodeSpec }]) {
          const read = readNode(object);
          if (read !== null) leaseOf(read, NAMES, v4);
        }
      }),
    );
  });
});

describe('what is written into the annotations', () => {
  test('byte for byte', () => {
    assert.deepEqual(annotationsFor(attrsOf('192.0.2.1'), node({}, {}), NAMES), ANNOUNCED);
    const attrs = attrsOf('192.0.2.1', { backendData: '{"Port":9001}', publicIpV6: 'fd00::1' });
    assert.deepEqual(annotationsFor(attrs, node({}, {}), NAMES), {
      ...ANNOUNCED,
      [NAMES.backendData]: '{"Port":9001}',
      [NAMES.publicIpV6]: 'fd00::1',
      [NAMES.backendV6Data]: 'null',
    });
  });

  test('an overwrite as it stands there', () => {
    const own = node({}, { [NAMES.publicIpOverwrite]: '203.0.113.5' });
    assert.equal(annotationsFor(attrsOf('192.0.2.1'), own, NAMES)[NAMES.publicIp], '203.0.113.5');
  });
});

describe('the table of nodes', () => {
  const entry = (name: string, cidrText: string, ip: string): NodeEntry => {
    const lease = leaseOf(node({ podCIDR: cidrText }, { ...ANNOUNCED, [NAMES.publicIp]: ip }, name), NAMES, {
      enableIPv6: false,
    });
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

  test('complains once about each problem, and about a claim to the own subnet', () => {
    const lines = captureLog();
    const table = new NodeTable(() => '10.244.9.0-24');
    for (let i = 0; i < 3; i++) {
      assert.deepEqual(table.put(entry('bad', '10.244.1.0/24', 'x')), []);
      assert.deepEqual(table.put(entry('thief', '10.244.9.0/24', '192.0.2.9')), []);
    }
    assert.equal(lines.length, 2, lines.join(''));
    assert.match(lines[0] ?? '', /no packets to the node bad: its annotation/);
    assert.match(lines[1] ?? '', /no packets to the node thief: it has this node's pod CIDR/);
  });
});
