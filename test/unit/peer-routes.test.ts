/** Routes in a network that has both families: who gets IPv6, over which family, and what a change costs. */
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { PeerRoutes } from '../../src/backend/peer-routes.js';
import type { RouteSettings } from '../../src/backend/peer-routes.js';
import type { Route } from '../../src/dataplane.js';
import { formatEndpoint } from '../../src/address.js';
import { Cidr4 } from '../../src/ip.js';
import { Cidr6 } from '../../src/ip6.js';
import type { Lease, LeaseAttrs } from '../../src/lease/lease.js';
import { attrsOf, captureLog } from '../lib/store.js';

const DUAL: RouteSettings = { networkPort: 8285, underlay: 'ipv4', carries: { v4: true, v6: true } };
const OURS: Partial<LeaseAttrs> = { backendType: 'udp', backendV6Data: '{}', publicIpV6: 'fd77::2' };

const lease = (n: number, more: Partial<LeaseAttrs> = OURS): Lease => ({
  subnet: { v4: new Cidr4(0x0a050000 + n * 256, 24), v6: new Cidr6(`fd00:5:0:${n}::`, 64) },
  attrs: attrsOf(`192.0.2.${n}`, more),
});
const text = (routes: readonly Route[]) =>
  routes.map(
    ({ destination, address, port }) => `${destination.toString()} ${formatEndpoint(address, port)}`,
  );

let lines: string[];
beforeEach(() => (lines = captureLog()));

describe('IPv6', () => {
  test('goes to those who announce it; others keep their IPv4 and are named once', () => {
    const routes = new PeerRoutes(DUAL);
    for (let i = 0; i < 3; i++) {
      assert.deepEqual(text(routes.of([lease(1), lease(2, {})])), [
        '10.5.1.0/24 192.0.2.1:8285',
        'fd00:5:0:1::/64 192.0.2.1:8285',
        '10.5.2.0/24 192.0.2.2:8285',
      ]);
    }
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? '', /no IPv6 to the host 192\.0\.2\.2: .*its IPv4 is not affected/);
    const change = routes.change([lease(1, { publicIpV6: 'fd77::2' })], []);
    assert.deepEqual(change?.removed.map(String), ['fd00:5:0:1::/64'], 'who announces it no more loses it');
  });

  test('as the underlay leads both families to the public IPv6 address', () => {
    const routes = new PeerRoutes({ ...DUAL, underlay: 'ipv6' });
    assert.deepEqual(text(routes.of([lease(1), lease(2, { ...OURS, publicIpV6: null })])), [
      '10.5.1.0/24 [fd77::2]:8285',
      'fd00:5:0:1::/64 [fd77::2]:8285',
    ]);
    assert.match(lines.join(''), /ignoring the lease 10\.5\.2\.0\/24: it has no public IPv6 address/);
  });
});

test('a route says of its peer that it answers probes where the lease does', () => {
  const routes = new PeerRoutes(DUAL);
  const probing = { ...OURS, backendData: '{"Port":9001,"ProbeMTU":true}' };
  const flags = (leases: readonly Lease[]) =>
    routes.of(leases).map(({ port, answersProbes = false }) => [port, answersProbes]);
  assert.deepEqual(flags([lease(1, probing), lease(2)]), [
    [9001, true],
    [9001, true],
    [8285, false],
    [8285, false],
  ]);
  const change = routes.change([lease(1), lease(2, probing)], []);
  assert.deepEqual(
    change?.put.map(({ answersProbes = false }) => answersProbes),
    [false, false, true, true],
  );
});

describe('a change', () => {
  const v4Only: Lease = { subnet: { ...lease(1).subnet, v6: null }, attrs: attrsOf('192.0.2.9') };

  test('of dual-stack leases is what changes', () => {
    const routes = new PeerRoutes(DUAL);
    routes.of([lease(1), lease(2)]);
    const change = routes.change([lease(3)], [lease(2)]);
    assert.deepEqual(text(change?.put ?? []), [
      '10.5.3.0/24 192.0.2.3:8285',
      'fd00:5:0:3::/64 192.0.2.3:8285',
    ]);
    assert.deepEqual(change?.removed.map(String), ['10.5.2.0/24', 'fd00:5:0:2::/64']);
    assert.deepEqual(routes.change([lease(2)], [])?.put.length, 2);
  });

  test('that gives a prefix to a second lease needs all of them; one that hands it on does not', () => {
    const routes = new PeerRoutes(DUAL);
    routes.of([lease(1)]);
    assert.equal(routes.change([v4Only], []), null);
    assert.equal(routes.change([v4Only], [lease(1)])?.put.length, 1);
    routes.of([lease(1), v4Only]);
    assert.equal(routes.change([], [v4Only]), null, 'the other one is still there');
  });
});
