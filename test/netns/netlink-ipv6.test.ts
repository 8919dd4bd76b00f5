/** What the netlink client makes of IPv6, as the kernel itself shows it. In the lab's own namespace. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { Cidr6 } from '../../src/ip6.js';
import { Rtnetlink } from '../../src/netlink/rtnetlink.js';
import type { Link } from '../../src/netlink/rtnetlink.js';

const DEVICE = 'tun6test';
const ADDRESS = new Cidr6('fd00:5:0:21::', 128);
const NETWORK = new Cidr6('fd00:5::', 48);
const SUBNET = new Cidr6('fd00:5:0:21::', 64);

const ip = (...args: readonly string[]) => execFileSync('ip', args, { encoding: 'utf8' });

let netlink: Rtnetlink;
beforeEach(() => {
  netlink = new Rtnetlink();
  ip('tuntap', 'add', DEVICE, 'mode', 'tun');
});
afterEach(() => {
  netlink.close();
  ip('link', 'delete', DEVICE);
});

function device(): Link {
  const link = netlink.links().find(({ name }) => name === DEVICE);
  assert.ok(link);
  return link;
}

describe('a TUN device', () => {
  test('has one address that can be used at once, none of its own, and the route', () => {
    const { index, ipv6 } = device();
    assert.equal(ipv6?.linkLocal, true);
    netlink.omitLinkLocal(index);
    netlink.bringUp(index, 1452);
    netlink.addAddress(index, ADDRESS);
    netlink.addRoute(NETWORK, index);
    assert.equal(device().ipv6?.linkLocal, false);
    assert.deepEqual(
      netlink
        .addresses6()
        .flatMap(({ linkIndex, ip: own, length }) => (linkIndex === index ? [[own, length]] : [])),
      [[ADDRESS.ip, 128]],
    );
    assert.doesNotMatch(ip('-6', 'address', 'show', 'dev', DEVICE), /tentative|fe80/);
    const routes = netlink.routes6().filter(({ linkIndex }) => linkIndex === index);
    assert.deepEqual(routes, [{ destination: NETWORK.ip, length: 48, linkIndex: index }]);
    assert.throws(() => {
      netlink.addRoute(NETWORK, index);
    });
  });

  test('says where IPv6 is disabled, and that it has none where it is too small', () => {
    const { index } = device();
    execFileSync('sh', ['-c', `echo 1 > /proc/sys/net/ipv6/conf/${DEVICE}/disable_ipv6`]);
    assert.equal(device().ipv6?.disabled, true);
    netlink.bringUp(index, 1279);
    assert.equal(device().ipv6, null);
  });
});

test('a blackhole comes and goes beside the route of a bridge to the same prefix', () => {
  const { index } = device();
  netlink.bringUp(index, 1500);
  netlink.addBlackhole(SUBNET);
  assert.deepEqual(netlink.routesTo(SUBNET), ['blackhole']);
  ip('-6', 'route', 'add', SUBNET.toString(), 'dev', DEVICE, 'metric', '256');
  assert.deepEqual(netlink.routesTo(SUBNET), ['other', 'blackhole']);
  netlink.deleteBlackhole(SUBNET);
  assert.deepEqual(netlink.routesTo(SUBNET), ['other']);
});
