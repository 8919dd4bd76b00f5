import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import { PeerRoutes } from '../../src/backend/peer-routes.js';
import type { RouteSettings } from '../../src/backend/peer-routes.js';
import { FlannelError } from '../../src/errors.js';
import {
  formatAnnouncement,
  formatOwnPort,
  formatPublicIp,
  ownPortOf,
  probesMtuOf,
  sameHost,
} from '../../src/lease/identity.js';
import type { Lease, LeaseAttrs } from '../../src/lease/lease.js';
import { attrsOf, captureLog, subnetOf } from '../lib/store.js';

const announcing = (backendData: string | null, backendType = '') =>
  attrsOf('192.168.0.1', { backendData, backendType });

describe('the port that a host announces', () => {
  const readable: [string | null, string, number | null][] = [
    [null, '', null],
    ['{"Port":9000}', '', 9000],
    ['{"Port":9000}', 'udp', 9000],
    ['{"port":1}', '', 1],
    ['{ "Port": 65535, "MTU": 1400 }', '', 65535],
    ['{}', '', null],
    ['{"Port":null}', '', null],
    ['{"PublicKey":"x","Port":51820}', 'wireguard', null],
    ['{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}', 'vxlan', null],
    ['not JSON', 'extension', null],
  ];
  for (const [data, type, port] of readable) {
    test(`${String(data)} of ${type || 'a host without a type'} is ${port ?? 'none'}`, () => {
      assert.equal(ownPortOf(announcing(data, type)), port);
    });
  }

  for (const data of [
    '{"Port":0}',
    '{"Port":65536}',
    '{"Port":"9000"}',
    '{"Port":9000.0}',
    '[9000]',
    '"x"',
    '9',
  ]) {
    test(`${data} makes no sense`, () => {
      assert.throws(() => ownPortOf(announcing(data)), FlannelError);
    });
  }

  test('is what was written', () => {
    const ports = fc.integer({ min: 1, max: 65535 });
    fc.assert(fc.property(ports, (port) => ownPortOf(announcing(formatOwnPort(port))) === port));
  });
});

test('a host without an IPv4 address is its IPv6 one', () => {
  const v6 = (publicIpV6: string | null, more: Partial<LeaseAttrs> = {}) =>
    attrsOf('0.0.0.0', { publicIpV6, ...more });
  assert.ok(sameHost(v6('2001:db8::1'), v6('2001:db8::1')));
  assert.ok(!sameHost(v6('2001:db8::1'), v6('2001:db8::2')));
  assert.ok(!sameHost(v6('2001:db8::1'), v6('2001:db8::1', { backendData: '{"Port":9000}' })));
  assert.ok(!sameHost(v6(null), v6(null)));
  assert.ok(!sameHost(v6('2001:db8::1'), attrsOf('192.168.0.1', { publicIpV6: '2001:db8::1' })));
  assert.ok(sameHost(attrsOf('192.168.0.1', { publicIpV6: '2001:db8::1' }), attrsOf('192.168.0.1')));
  assert.equal(formatPublicIp(v6('2001:db8::1')), '2001:db8::1');
  assert.equal(formatPublicIp(attrsOf('192.168.0.1', { publicIpV6: '2001:db8::1' })), '192.168.0.1');
});

test('a host is its public IP and its own port', () => {
  assert.ok(sameHost(announcing(null), announcing(null)));
  assert.ok(sameHost(announcing(null), announcing('{"Port":"broken"}')));
  assert.ok(sameHost(announcing('{"Port":9000}'), announcing('{"port": 9000}')));
  assert.ok(!sameHost(announcing('{"Port":9000}'), announcing(null)));
  assert.ok(!sameHost(announcing('{"Port":9000}'), announcing('{"Port":9001}')));
  assert.ok(!sameHost(announcing('{"Port":9000}'), { ...announcing('{"Port":9000}'), publicIp: 1 }));
});

const V4: RouteSettings = { networkPort: 8285, underlay: 'ipv4', carries: { v4: true, v6: false } };

describe('routes to peers', () => {
  let lines: string[];
  beforeEach(() => (lines = captureLog()));
  const lease = (n: number, attrs: LeaseAttrs): Lease => ({ subnet: subnetOf(`10.5.${n}.0/24`), attrs });

  test('lead to their own ports, else to that of the network', () => {
    const routes = new PeerRoutes(V4).of([
      lease(1, announcing(null)),
      lease(2, announcing('{"Port":9000}')),
      lease(3, announcing('{"Port":51820}', 'wireguard')),
    ]);
    assert.deepEqual(
      routes.map(({ port }) => port),
      [8285, 9000, 8285],
    );
    assert.deepEqual(lines, []);
  });

  test('a port that makes no sense is warned of once and replaced', () => {
    const routes = new PeerRoutes(V4);
    const broken = lease(1, announcing('{"Port":"9000"}'));
    for (let i = 0; i < 3; i++) assert.equal(routes.of([broken])[0]?.port, 8285);
    assert.equal(lines.length, 1);
    assert.match(
      lines[0] ?? '',
      /^W.*the lease 10\.5\.1\.0\/24 has no usable port \(Port is "9000", expected a port number.*; using 8285/,
    );
    routes.of([]);
    routes.of([broken]);
    assert.equal(lines.length, 2, 'again, once it was away');
  });

  test('a lease without a public IP is left out', () => {
    const routes = new PeerRoutes(V4);
    for (let i = 0; i < 3; i++) assert.deepEqual(routes.of([lease(1, attrsOf('0.0.0.0'))]), []);
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? '', /ignoring the lease 10\.5\.1\.0\/24: its public IP is 0\.0\.0\.0/);
  });
});

describe('what a host announces of itself', () => {
  const announcements: [number | null, boolean, string | null][] = [
    [null, false, null],
    [9000, false, '{"Port":9000}'],
    [null, true, '{"ProbeMTU":true}'],
    [9000, true, '{"Port":9000,"ProbeMTU":true}'],
  ];
  for (const [port, probesMtu, data] of announcements) {
    test(`${port ?? 'no port'}, ${probesMtu ? 'probes' : 'no probes'}`, () => {
      assert.equal(formatAnnouncement({ port, probesMtu }), data);
      assert.equal(ownPortOf(announcing(data)), port);
      assert.equal(probesMtuOf(announcing(data)), probesMtu);
    });
  }

  test('is no probes where it is not said so, or by no udp host', () => {
    for (const data of ['{"ProbeMTU":false}', '{"ProbeMTU":null}', '{"ProbeMTU":1}', '{}', '[]', 'x', null]) {
      assert.equal(probesMtuOf(announcing(data)), false, String(data));
    }
    assert.equal(probesMtuOf(announcing('{"ProbeMTU":true}', 'vxlan')), false);
  });
});
