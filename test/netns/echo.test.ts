/** ICMP echo as the daemon's own tools send it, from the lab to a host and to what lies behind that host. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { execFileSync } from 'node:child_process';
import { Topology } from '../../bench/topology.js';
import { openEcho } from '../../src/echo.js';
import type { Echo } from '../../src/echo.js';
import { parseIp4 } from '../../src/ip.js';

const BEHIND_HOST1 = '10.9.9.1';
const NARROW_MTU = 900;
const ECHO = { size: 84, dontFragment: true, timeoutMs: 5000 };

let topology: Topology;
let echo: Echo;

before(async () => {
  const access = await openEcho(4);
  assert.ok(access.echo, access.reason ?? '');
  echo = access.echo;
  topology = await Topology.create(1);
  const [router] = topology.hosts;
  await router?.exec('sysctl', '-qw', 'net.ipv4.ip_forward=1');
  await router?.ip('link', 'add', 'narrow', 'mtu', String(NARROW_MTU), 'type', 'veth', 'peer', 'name', 'far');
  await router?.ip('address', 'add', '10.9.9.254/24', 'dev', 'narrow');
  await router?.ip('link', 'set', 'narrow', 'up');
  await router?.ip('link', 'set', 'far', 'up');
  execFileSync('ip', ['route', 'add', '10.9.9.0/24', 'via', '192.168.77.1']);
});
after(async () => {
  echo.close();
  await topology.close();
});

function ip(text: string): number {
  const address = parseIp4(text);
  assert.ok(address !== undefined);
  return address;
}

test('a hundred at once are told apart', async () => {
  const results = await Promise.all(
    Array.from({ length: 100 }, (_, i) => echo.ping(ip('192.168.77.1'), { ...ECHO, size: 84 + i })),
  );
  for (const result of results) {
    assert.equal(result.outcome, 'reply');
    assert.ok(result.rttMs > 0 && result.rttMs < ECHO.timeoutMs);
  }
});

test('an address that nobody has: no answer in time', async () => {
  const { outcome } = await echo.ping(ip('192.168.77.99'), { ...ECHO, timeoutMs: 200 });
  assert.equal(outcome, 'timeout');
});

test('a hop that is too narrow tells its MTU, and only where nothing may be fragmented', async () => {
  const options = { ...ECHO, size: 1400 };
  assert.deepEqual(await echo.ping(ip(BEHIND_HOST1), options), { outcome: 'too big', mtu: NARROW_MTU });
  const fitting = await echo.ping(ip(BEHIND_HOST1), { ...ECHO, size: NARROW_MTU, timeoutMs: 200 });
  assert.notEqual(fitting.outcome, 'too big');
  assert.equal((await echo.ping(ip('192.168.77.1'), { ...options, dontFragment: false })).outcome, 'reply');
});

test('more than the own link carries is refused here', async () => {
  assert.deepEqual(await echo.ping(ip('192.168.77.1'), { ...ECHO, size: 1501 }), {
    outcome: 'too big',
    mtu: null,
  });
});

test('a net that no router knows is unreachable', async () => {
  const result = await echo.ping(ip('203.0.113.1'), ECHO);
  assert.equal(result.outcome, 'unreachable');
});

describe('of IPv6', () => {
  let echo6: Echo;
  before(async () => {
    const access = await openEcho(6);
    assert.ok(access.echo, access.reason ?? '');
    echo6 = access.echo;
    const [router] = topology.hosts;
    await router?.exec('sysctl', '-qw', 'net.ipv6.conf.all.forwarding=1');
    await router?.ip('link', 'add', 'narrow6', 'mtu', '1300', 'type', 'veth', 'peer', 'name', 'far6');
    await router?.ip('address', 'add', 'fd99::1/64', 'dev', 'narrow6', 'nodad');
    await router?.ip('link', 'set', 'narrow6', 'up');
    await router?.ip('link', 'set', 'far6', 'up');
    execFileSync('ip', ['-6', 'route', 'add', 'fd99::/64', 'via', 'fd77::1']);
  });
  after(() => {
    echo6.close();
  });

  test('a hundred at once are told apart, fragmented ones too', async () => {
    const pings = Array.from({ length: 100 }, (_, i) =>
      echo6.ping('fd77::1', { ...ECHO, dontFragment: false, size: 84 + 20 * i }),
    );
    for (const result of await Promise.all(pings)) {
      assert.equal(result.outcome, 'reply');
      assert.ok(result.rttMs > 0 && result.rttMs < ECHO.timeoutMs);
    }
  });

  test('an address that nobody has: no answer in time; a net that no router knows is unreachable', async () => {
    const { outcome } = await echo6.ping('fd77::99', { ...ECHO, timeoutMs: 200 });
    assert.equal(outcome, 'timeout');
    assert.equal((await echo6.ping('2001:db8::1', ECHO)).outcome, 'unreachable');
  });

  test('a hop that is too narrow tells its MTU; the own link refuses what it does not carry', async () => {
    assert.deepEqual(await echo6.ping('fd99::2', { ...ECHO, size: 1400 }), { outcome: 'too big', mtu: 1300 });
    assert.deepEqual(await echo6.ping('fd77::1', { ...ECHO, size: 1501 }), { outcome: 'too big', mtu: null });
    assert.equal((await echo6.ping('fd77::1', { ...ECHO, size: 1500 })).outcome, 'reply');
  });

  test('a router that refuses it is named', async () => {
    await topology.hosts[0]?.ip('-6', 'route', 'add', 'unreachable', '2001:db8:5::/48');
    execFileSync('ip', ['-6', 'route', 'add', '2001:db8:5::/48', 'via', 'fd77::1']);
    assert.deepEqual(await echo6.ping('2001:db8:5::1', ECHO), {
      outcome: 'unreachable',
      reason: 'fd77::1: unreachable, code 0',
    });
  });
});

test('closing ends what is in flight, and what comes after it', async () => {
  const access = await openEcho(4);
  assert.ok(access.echo);
  const pending = access.echo.ping(ip('192.168.77.99'), { ...ECHO, timeoutMs: 60_000 });
  access.echo.close();
  assert.deepEqual(await pending, { outcome: 'unreachable', reason: 'closed' });
  assert.equal((await access.echo.ping(ip('192.168.77.1'), ECHO)).outcome, 'unreachable');
});
