/**
 * What others do to a host's network under a running daemon: it has to be well again within a second, say what it
 * did in one line, and say nothing else.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { promisify } from 'node:util';
import type { Daemon } from '../../bench/daemon.js';
import { tcpStream } from '../../bench/probes.js';
import { Dataplane } from '../../src/dataplane.js';
import { eventually } from '../lib/eventually.js';
import { TestNetwork } from '../lib/network.js';
import { within } from '../lib/within.js';

const run = promisify(execFile);
const HEAL_MS = 1000;
const OVERLAY = '10.244.0.0/16';
/** Lines that follow from a change without being about it. */
const CONSEQUENCE = /Lease renewed|Waiting for|Wrote subnet file/;

const cannot = (call: string) => (call in Dataplane.prototype ? false : `the dataplane has no ${call} yet`);
const NO_REBIND = { skip: cannot('rebind') };
const NO_REOPEN = { skip: cannot('reopenDevice') };

let network: TestNetwork;
let a: Daemon;
let b: Daemon;

before(async () => {
  network = await TestNetwork.create(2);
});
afterEach(async () => {
  await network.stopAll();
  await network.emptyStore();
  for (const host of network.topology.hosts) {
    await host.exec(
      'sh',
      '-c',
      `ip address flush dev eth0; ip link set eth0 mtu 1500 up; ip address add ${host.address}/24 dev eth0; ` +
        'ip route replace default via 192.168.77.254',
    );
  }
});
after(() => network.close());

async function startBoth(...flags: string[]): Promise<void> {
  const daemons = await network.startAll(...flags);
  assert.ok(daemons[0] && daemons[1]);
  [a, b] = [daemons[0], daemons[1]];
}

/** `ip` commands on a's host, all of which are done when its daemon gets to see any. */
async function ip(...commands: readonly string[]): Promise<void> {
  a.process.kill('SIGSTOP');
  try {
    await a.host.exec('sh', '-c', `printf '%s\\n' "$@" | ip -batch -`, 'sh', ...commands);
  } finally {
    a.process.kill('SIGCONT');
  }
}

/** Resolves once it is so, which has to be soon. */
async function soon(attempt: () => unknown): Promise<void> {
  await within(HEAL_MS, [a, b], attempt);
}

/** Resolves once the daemon has said it, which has to be soon. */
async function saysSoon(daemon: Daemon, pattern: RegExp): Promise<void> {
  await soon(() => {
    assert.match(daemon.log, pattern);
  });
}

/** A packet every 100 ms until one is answered. */
async function reach(from: Daemon, to: Daemon): Promise<void> {
  await soon(() => from.host.exec('ping', '-n', '-c', '1', '-i', '0.1', '-w', '1', to.overlayAddress));
}

/** The change, then exactly one line about it, and packets both ways, all of it within a second each. */
async function heals(change: () => Promise<void>, line: RegExp): Promise<void> {
  const mark = a.log.length;
  const said = () =>
    a.log
      .slice(mark)
      .split('\n')
      .filter((text) => text !== '' && !CONSEQUENCE.test(text));
  await change();
  await soon(() => said().some((text) => line.test(text)));
  await reach(a, b);
  await reach(b, a);
  assert.equal(said().length, 1, said().join('\n'));
  assert.match(said()[0] ?? '', line);
}

/** A TCP stream from b to a, once it is there: nobody can listen on an address that is being taken away. */
async function streaming(): Promise<{ readonly stream: ReturnType<typeof tcpStream> }> {
  const stream = tcpStream(b.host, a.host, a.overlayAddress, { seconds: 3 });
  const there = async () => {
    const { stdout } = await a.host.exec('ss', '-Htn', 'state', 'established');
    return stdout.includes(`${a.overlayAddress}:`);
  };
  await Promise.race([stream, eventually(there)]);
  return { stream };
}

const deviceState = async () => ({
  link: /mtu (\d+)/.exec(await a.host.ip('link', 'show', 'flannel0'))?.[1],
  address: / inet (\S+)/.exec(await a.host.ip('-4', '-o', 'address', 'show', 'flannel0'))?.[1],
  route: (await a.host.ip('route', 'show', 'dev', 'flannel0')).trim(),
});

describe('the device', () => {
  beforeEach(() => startBoth());

  const changes: [string, () => string[], RegExp][] = [
    [
      'its route is deleted',
      () => [`route delete ${OVERLAY} dev flannel0`],
      /restored route 10\.244\.0\.0\/16$/,
    ],
    [
      'its address is deleted',
      () => [`address delete ${a.overlayAddress}/32 dev flannel0`],
      /restored address 10\.244\.\d+\.0\/32, route 10\.244\.0\.0\/16$/,
    ],
    ['its MTU is changed', () => ['link set flannel0 mtu 9000'], /restored MTU 1472$/],
    ['it is set down', () => ['link set flannel0 down'], /restored state up, route 10\.244\.0\.0\/16$/],
    [
      'it is set down and up',
      () => ['link set flannel0 down', 'link set flannel0 up'],
      /restored route 10\.244\.0\.0\/16$/,
    ],
    [
      'everything at once',
      () => [
        'address flush dev flannel0',
        'link set flannel0 mtu 1000 gso_max_size 1500',
        'link set flannel0 down',
      ],
      /restored address 10\.244\.\d+\.0\/32, gso_max_size, MTU 1472, route 10\.244\.0\.0\/16$/,
    ],
  ];
  for (const [name, commands, line] of changes) {
    test(`${name}: it is restored`, async () => {
      const before = await deviceState();
      await heals(() => ip(...commands()), line);
      assert.deepEqual(await deviceState(), before);
    });
  }

  test('deleted, it is made again', NO_REOPEN, async () => {
    const before = await deviceState();
    for (let times = 0; times < 3; times++) {
      await heals(() => ip('link delete flannel0'), /flannel0 was deleted by somebody; made it again$/);
      assert.deepEqual(await deviceState(), before);
    }
  });

  test('a TCP stream outlives all of it', async () => {
    const { stream } = await streaming();
    for (const [name, commands, line] of changes) {
      const mark = a.log.length;
      await ip(...commands());
      await soon(() => line.test(a.log.slice(mark).trimEnd())).catch((error: unknown) => {
        throw new Error(`${name}: ${a.log.slice(mark)}`, { cause: error });
      });
    }
    const { received } = await stream;
    assert.ok(received.bytes > 1 << 20);
  });

  test("somebody else's route to the overlay is left alone until it goes", async () => {
    const mark = a.log.length;
    await ip(`route replace ${OVERLAY} dev eth0`);
    await soon(() => a.log.slice(mark).includes(`there is another route to ${OVERLAY}, so flannel0`));
    assert.equal((await a.host.ip('route', 'show', OVERLAY)).trim(), `${OVERLAY} dev eth0 scope link`);
    await heals(() => ip(`route delete ${OVERLAY} dev eth0`), /restored route/);
  });

  test('a quarrel is given up after ten times, and told', async () => {
    const restored = () => a.log.split('restored route').length - 1;
    for (let times = 1; times <= 10; times++) {
      await ip(`route delete ${OVERLAY} dev flannel0`);
      await soon(() => restored() === times);
    }
    await ip(`route delete ${OVERLAY} dev flannel0`);
    await saysSoon(a, /something else keeps changing flannel0 \(route 10\.244\.0\.0\/16\)/);
    await ip('link set flannel0 mtu 9000');
    await saysSoon(a, /restored MTU 1472\n/); // other things are
    assert.equal(restored(), 10);
    assert.equal((await a.host.ip('route', 'show', OVERLAY)).trim(), '');
    assert.equal(a.exitCode, null);
  });
});

test('a device that cannot be made again ends the daemon with the reason', async () => {
  const daemon = network.startBehind(['unshare', '--mount'], 1);
  await daemon.logged(/flannel is ready/);
  const hide = [
    `--mount=/proc/${daemon.process.pid ?? 0}/ns/mnt`,
    'mount',
    '-t',
    'tmpfs',
    'tmpfs',
    '/dev/net',
  ];
  await run('nsenter', hide);
  await daemon.host.ip('link', 'delete', 'flannel0');
  await daemon.logged(
    /the dataplane stopped \(.*\); was the TUN device flannel0 deleted\? Restart flanneld: /,
  );
  await daemon.ended();
  assert.equal(daemon.exitCode, 1);
});

describe('the external interface', () => {
  test('another MTU: the device and subnet.env follow, there and back', async () => {
    await startBoth();
    for (const [mtu, inner] of [
      [1400, 1372],
      [9000, 8972],
      [1500, 1472],
    ]) {
      const line = new RegExp(`MTU of eth0 is ${mtu}, so that of flannel0 is ${inner} now$`);
      await heals(() => ip(`link set eth0 mtu ${mtu}`), line);
      assert.equal((await deviceState()).link, String(inner));
      await soon(() => a.subnetEnv('FLANNEL_MTU') === String(inner));
    }
  });

  test('an MTU that is too small is told once; the device stays as it is', async () => {
    await startBoth();
    await ip('link set eth0 mtu 90');
    await a.logged(
      /cannot follow to .*interface eth0 has an MTU of 90, but the udp backend needs at least 96/,
    );
    await heals(() => ip('link set eth0 mtu 1400'), /MTU of eth0 is 1400, so that of flannel0 is 1372 now$/);
    assert.equal(a.log.split('cannot follow').length - 1, 1);
  });

  test('down and up again', async () => {
    await startBoth();
    const mark = a.log.length;
    await ip('link set eth0 down');
    await soon(() => /W\d{4} .*eth0 is down/.test(a.log.slice(mark)));
    await heals(() => ip('link set eth0 up'), /eth0 is up again$/);
  });

  test('without its cable and with it again', async () => {
    await startBoth();
    await run('ip', ['link', 'set', 'port1', 'down']);
    await saysSoon(a, /W\d{4} .*eth0 is down/);
    await heals(async () => {
      await run('ip', ['link', 'set', 'port1', 'up']);
    }, /eth0 is up again$/);
  });

  test('its only address lost and back: one line each, and no feature is given up for it', async () => {
    await startBoth('--iface=eth0');
    const { stream } = await streaming();
    const mark = a.log.length;
    await ip(`address delete 192.168.77.1/24 dev eth0`);
    await soon(() => /W\d{4} .*lost 192\.168\.77\.1 on eth0/.test(a.log.slice(mark)));
    await heals(() => ip('address add 192.168.77.1/24 dev eth0'), /192\.168\.77\.1 is back on eth0$/);
    const { received } = await stream;
    assert.ok(received.bytes > 1 << 20);
    assert.doesNotMatch(a.log, /the kernel refuses/);
  });

  test('another address: sockets and lease move, peers follow, the subnet stays', NO_REBIND, async () => {
    await startBoth();
    const subnet = a.overlaySubnet;
    const { stream } = await streaming();
    for (const [from, to] of [
      [1, 51],
      [51, 1],
    ]) {
      await heals(
        () => ip(`address delete 192.168.77.${from}/24 dev eth0`, `address add 192.168.77.${to}/24 dev eth0`),
        new RegExp(`Using interface with name eth0 and address 192\\.168\\.77\\.${to}, until now`),
      );
      await saysSoon(b, new RegExp(`Subnet added: ${subnet} via 192\\.168\\.77\\.${to}\\n`));
      assert.equal(leaseOf(subnet), `{"PublicIP":"192.168.77.${to}","PublicIPv6":null}`);
      assert.match((await a.host.exec('ss', '-Hulnp')).stdout, new RegExp(`192\\.168\\.77\\.${to}:8285 `));
    }
    const { received } = await stream;
    assert.ok(received.bytes > 1 << 20);
    assert.equal(readdirSync(join(network.store, 'subnets')).length, 2);
    assert.doesNotMatch(a.log, /was taken by|revoked/);
  });

  test('with --public-ip, another address changes the sockets and nothing else', NO_REBIND, async () => {
    a = network.start(1, '--iface=eth0', '--public-ip=203.0.113.7');
    await a.logged(/flannel is ready/);
    const subnet = a.overlaySubnet;
    const lease = leaseOf(subnet);
    await ip('address delete 192.168.77.1/24 dev eth0', 'address add 192.168.77.51/24 dev eth0');
    await within(HEAL_MS, [a], () => {
      assert.match(a.log, /Using interface with name eth0 and address 192\.168\.77\.51, until now [^;\n]*\n/);
    });
    assert.match((await a.host.exec('ss', '-Hulnp')).stdout, /192\.168\.77\.51:8285 /);
    assert.equal(leaseOf(subnet), lease);
  });
});

describe('a second interface', () => {
  beforeEach(async () => {
    const { name } = network.host(1);
    await run('ip', ['link', 'add', 'port1b', 'type', 'veth', 'peer', 'name', 'eth1', 'netns', name]);
    await run('ip', ['link', 'set', 'port1b', 'master', 'underlay', 'up']);
    await network.host(1).ip('address', 'add', '192.168.78.1/24', 'dev', 'eth1');
    await network.host(1).ip('link', 'set', 'eth1', 'up');
    await network.host(2).ip('route', 'add', '192.168.78.0/24', 'dev', 'eth0');
  });
  afterEach(async () => {
    await run('ip', ['link', 'delete', 'port1b']);
    await network.host(2).ip('route', 'delete', '192.168.78.0/24', 'dev', 'eth0');
  });

  test('gets the default route, and with it sockets and lease', NO_REBIND, async () => {
    await startBoth();
    const subnet = a.overlaySubnet;
    await heals(
      () => ip('route replace default via 192.168.78.254 dev eth1'),
      /Using interface with name eth1 and address 192\.168\.78\.1, until now interface with name eth0 and address 192\.168\.77\.1; using 192\.168\.78\.1 as external address$/,
    );
    await saysSoon(b, new RegExp(`Subnet added: ${subnet} via 192\\.168\\.78\\.1\\n`));
    await heals(
      () => ip('route replace default via 192.168.77.254 dev eth0'),
      /Using interface with name eth0 and address 192\.168\.77\.1, until now/,
    );
    await b.logged(
      new RegExp(`via 192\\.168\\.78\\.1\\n[^]*Subnet added: ${subnet} via 192\\.168\\.77\\.1\\n`),
    );
  });

  test('gets nothing where --iface names the first one', async () => {
    await startBoth('--iface=eth0');
    const lease = leaseOf(a.overlaySubnet);
    await heals(
      () => ip('route replace default via 192.168.78.254 dev eth1', `route delete ${OVERLAY} dev flannel0`),
      /restored route/,
    );
    assert.equal(leaseOf(a.overlaySubnet), lease);
    assert.match((await a.host.exec('ss', '-Hulnp')).stdout, /192\.168\.77\.1:8285 /);
  });
});

function leaseOf(subnet: string): string {
  return readFileSync(join(network.store, 'subnets', subnet.replace('/', '-')), 'utf8');
}
