import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { announcedBy, annotationsFor, hasAnnotations } from '../../src/subnet/kube/announcement.js';
import { annotationNames } from '../../src/subnet/kube/annotations.js';
import { readNode } from '../../src/subnet/kube/node.js';
import type { KubeNode } from '../../src/subnet/kube/node.js';
import { attrsOf } from '../lib/store.js';

const NAMES = annotationNames('flannel.alpha.coreos.com');
const ANNOUNCED = {
  [NAMES.manager]: 'true',
  [NAMES.backendType]: '',
  [NAMES.backendData]: 'null',
  [NAMES.publicIp]: '192.0.2.1',
};

function node(annotations: unknown): KubeNode {
  const read = readNode({ metadata: { name: 'n1', annotations } });
  assert.ok(read);
  return read;
}

describe('what is written into the annotations', () => {
  test('byte for byte', () => {
    assert.deepEqual(annotationsFor(attrsOf('192.0.2.1'), node({}), NAMES), ANNOUNCED);
    const attrs = attrsOf('192.0.2.1', { backendData: '{"Port":9001}', publicIpV6: 'fd00::1' });
    assert.deepEqual(annotationsFor(attrs, node({}), NAMES), {
      ...ANNOUNCED,
      [NAMES.backendData]: '{"Port":9001}',
      [NAMES.publicIpV6]: 'fd00::1',
      [NAMES.backendV6Data]: 'null',
    });
  });

  test('of a dual-stack host, and of one with IPv6 alone', () => {
    const v6 = { backendType: 'udp', backendV6Data: '{}', publicIpV6: '2001:db8::1' };
    const dual = annotationsFor(attrsOf('192.0.2.1', v6), node({}), NAMES);
    assert.deepEqual(dual, {
      [NAMES.manager]: 'true',
      [NAMES.backendType]: 'udp',
      [NAMES.backendData]: 'null',
      [NAMES.publicIp]: '192.0.2.1',
      [NAMES.backendV6Data]: '{}',
      [NAMES.publicIpV6]: '2001:db8::1',
    });
    const ipv6Only = annotationsFor(attrsOf('0.0.0.0', v6), node({}), NAMES);
    assert.deepEqual({ ...ipv6Only, [NAMES.publicIp]: '192.0.2.1' }, dual);
    assert.ok(!(NAMES.publicIp in ipv6Only));
  });

  test('and what was said of a family that is not carried any more goes', () => {
    const left = node({ [NAMES.backendV6Data]: '{}', [NAMES.publicIpV6]: 'fd00::1' });
    const wanted = annotationsFor(attrsOf('192.0.2.1'), left, NAMES);
    assert.deepEqual(wanted, { ...ANNOUNCED, [NAMES.backendV6Data]: null, [NAMES.publicIpV6]: null });
    assert.ok(!hasAnnotations(node({ ...ANNOUNCED, [NAMES.backendV6Data]: '{}' }), wanted));
    assert.ok(hasAnnotations(node(ANNOUNCED), wanted));
  });

  test('an overwrite as it stands there', () => {
    const own = node({
      [NAMES.publicIpOverwrite]: '203.0.113.5',
      [NAMES.publicIpV6Overwrite]: '2001:db8::5',
    });
    const written = annotationsFor(attrsOf('192.0.2.1', { publicIpV6: '2001:db8::1' }), own, NAMES);
    assert.equal(written[NAMES.publicIp], '203.0.113.5');
    assert.equal(written[NAMES.publicIpV6], '2001:db8::5');
    // Of a family that is not carried there is nothing to overwrite.
    assert.deepEqual(annotationsFor(attrsOf('192.0.2.1'), own, NAMES), {
      ...ANNOUNCED,
      [NAMES.publicIp]: '203.0.113.5',
    });
  });

  test('is what is read again', () => {
    const attrs = fc.record(
      {
        publicIp: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
        publicIpV6: fc.constantFrom(null, '2001:db8::1'),
        backendType: fc.constantFrom('', 'udp'),
        backendData: fc.constantFrom(null, '{"Port":9001}'),
        backendV6Data: fc.constantFrom(null, '{}'),
      },
      { noNullPrototype: true },
    );
    fc.assert(
      fc.property(attrs, (announced) => {
        const written = annotationsFor(announced, node({}), NAMES);
        assert.deepEqual(announcedBy(node(written), NAMES, { enableIPv4: true }), announced);
      }),
    );
  });
});
