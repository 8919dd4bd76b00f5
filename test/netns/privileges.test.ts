/** What a running flanneld may still do, thread by thread, and that its work needs no more. */
import assert from 'node:assert/strict';
import { chmod, chown, copyFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Daemon } from '../../bench/daemon.js';
import { GATEWAY } from '../../bench/topology.js';
import { effectiveCapabilities, namesOf } from '../../src/capabilities.js';
import { Certificates } from '../lib/certificates.js';
import { Etcd } from '../lib/etcd.js';
import { eventually } from '../lib/eventually.js';
import { CONFIG, failsWith, inInitialUserNamespace, noDeviceNodes, TestNetwork } from '../lib/network.js';
import { withVariant } from '../lib/rules.js';
import type { Variant } from '../lib/rules.js';
import { startStandby } from '../lib/standby.js';
import { threadsOf } from '../lib/thread-status.js';
import type { ThreadStatus } from '../lib/thread-status.js';
import { datagramsBothWays, streamBothWays } from '../lib/traffic.js';

const MIB = 1 << 20;
/** CAP_NET_ADMIN and CAP_NET_RAW. */
const KEPT = (1n << 12n) | (1n << 13n);
const CAP_DAC_READ_SEARCH = 1n << 2n;
/** Root is the only user where the lab has a user namespace of its own. */
const OTHER_USER = inInitialUserNamespace() ? 65_534 : 0;
const PREFIX = '/coreos.com/network';
const MOVES_PACKETS = /^(?:encap|decap|forward)-\d+$/;

let network: TestNetwork;
before(async () => {
  network = await TestNetwork.create(2);
});
afterEach(async () => {
  await network.stopAll();
  await writeFile(join(network.store, 'config'), JSON.stringify(CONFIG));
});
after(() => network.close());

function statusOf(daemon: Daemon): { control: ThreadStatus[]; packet: ThreadStatus[] } {
  const threads = threadsOf(daemon.process.pid ?? 0);
  return {
    control: threads.filter(({ name }) => !MOVES_PACKETS.test(name)),
    packet: threads.filter(({ name }) => MOVES_PACKETS.test(name)),
  };
}

/** The packet threads may do nothing, and the others no more than `kept`. */
function assertReduced(daemon: Daemon, kept: bigint): void {
  const { control, packet } = statusOf(daemon);
  assert.ok(control.length > 5, `${control.length} threads of Node`);
  for (const { name, capabilities, noNewPrivs, filtered } of control) {
    const all = { CapInh: kept, CapPrm: kept, CapEff: kept, CapBnd: kept, CapAmb: kept };
    assert.deepEqual(capabilities, all, name);
    assert.ok(noNewPrivs, name);
    assert.ok(!filtered, name);
  }
  assertConfined(packet, kept);
}

/** A thread that a reduced one has made can no longer change its bounding set; `bounding` is the most in it. */
function assertConfined(packet: readonly ThreadStatus[], bounding = 0n): void {
  assert.ok(packet.length > 0);
  for (const { name, capabilities, noNewPrivs, filtered } of packet) {
    const { CapBnd, ...others } = capabilities;
    assert.deepEqual(others, { CapInh: 0n, CapPrm: 0n, CapEff: 0n, CapAmb: 0n }, name);
    assert.equal(CapBnd & ~bounding, 0n, name);
    assert.ok(noNewPrivs && filtered, name);
  }
}

async function startBoth(...flags: readonly string[]): Promise<[Daemon, Daemon]> {
  const [a, b] = await network.startAll(...flags);
  assert.ok(a && b);
  return [a, b];
}

for (const threads of ['single', 'split']) {
  test(`no thread has more than it needs, and packets flow; threads: ${threads}`, async () => {
    const [a, b] = await startBoth(`--dataplane-threads=${threads}`, '--dataplane-queues=2');
    assert.match(a.log, /Privileges kept: CAP_NET_ADMIN, CAP_NET_RAW; no_new_privs is set\n/);
    await streamBothWays(a, b, 8 * MIB);
    await datagramsBothWays(a, b, 50);
    // After the work, for which Node has started further threads.
    for (const daemon of [a, b]) assertReduced(daemon, KEPT);
  });
}

test('--keep-privileges leaves all to the threads that move no packets', async () => {
  const [a] = await startBoth('--keep-privileges');
  assert.doesNotMatch(a.log, /Privileges kept/);
  const { control, packet } = statusOf(a);
  for (const { capabilities, noNewPrivs } of control) {
    assert.equal(capabilities.CapEff, effectiveCapabilities());
    assert.ok(!noNewPrivs);
  }
  assertConfined(packet);
});

test('CAP_NET_BIND_SERVICE stays where a port below 1024 may have to be bound again', async () => {
  await writeFile(
    join(network.store, 'config'),
    JSON.stringify({ ...CONFIG, Backend: { Type: 'udp', Port: 853 } }),
  );
  const [a, b] = await startBoth();
  assertReduced(a, KEPT | (1n << 10n));
  await a.host.exec('ping', '-c', '1', '-W', '2', b.overlayAddress);
});

test('without CAP_SETPCAP the bounding set stays, and all else goes', async () => {
  const wrapper = ['setpriv', '--bounding-set=-setpcap', '--inh-caps=-setpcap', '--'];
  const a = network.startBehind(wrapper, 1);
  await a.logged(/flannel is ready/);
  for (const { name, capabilities, noNewPrivs } of statusOf(a).control) {
    assert.equal(capabilities.CapPrm, KEPT, name);
    assert.equal(capabilities.CapAmb, KEPT, name);
    assert.notEqual(capabilities.CapBnd, KEPT, name);
    assert.ok(noNewPrivs, name);
  }
});

test('flannel-standby moves packets with as little', async () => {
  const [a, b] = await startBoth();
  const standby = await startStandby(network.host(1), join(network.folder, 'host1.sock'));
  try {
    await a.logged(/stands by/);
    const { overlayAddress } = a;
    await a.stop();
    assert.equal(await standby.line(), 'flannel-standby: flanneld is gone; forwarding in its place');
    await eventually(() => b.host.exec('ping', '-n', '-c', '1', '-W', '1', overlayAddress));
    assertConfined(threadsOf(standby.pid).filter(({ name }) => MOVES_PACKETS.test(name)));
  } finally {
    await standby.terminate();
  }
});

describe('afterwards', () => {
  test('a device that was deleted comes back', async () => {
    const [a, b] = await startBoth();
    await a.host.ip('link', 'delete', 'flannel0');
    await eventually(() => a.host.exec('ping', '-n', '-c', '1', '-W', '0.5', b.overlayAddress));
    assertReduced(a, KEPT);
  });

  for (const variant of ['legacy', 'nft'] as readonly Variant[]) {
    test(`rules of iptables (${variant}) that were flushed come back`, async () => {
      const behind = await withVariant(network.folder, variant);
      const a = network.startBehind(behind, 1, '--ip-masq', '--iptables-resync=1');
      await a.logged(/flannel is ready/);
      const program = `iptables-${variant}`;
      await a.host.exec(program, '-F', 'FLANNEL-FWD');
      await eventually(async () => {
        const { stdout } = await a.host.exec(program, '-S', 'FLANNEL-FWD');
        assert.match(stdout, /-j ACCEPT/);
      });
    });
  }

  test('rules of nftables that were deleted come back', async () => {
    await writeFile(join(network.store, 'config'), JSON.stringify({ ...CONFIG, EnableNFTables: true }));
    const a = network.start(1, '--iptables-resync=1');
    await a.logged(/flannel is ready/);
    await a.host.exec('nft', 'delete', 'table', 'ip', 'flannel-ipv4');
    await eventually(() => a.host.exec('nft', 'list', 'table', 'ip', 'flannel-ipv4'));
  });

  test('TLS files that are replaced are read, whoever owns them, and etcd is there again', async () => {
    const certificates = new Certificates(network.folder);
    const names = ['ca.crt', 'client.crt', 'client.key'] as const;
    /** New files for both sides, those of flanneld readable by `owner` alone. */
    const rotate = async (owner: number): Promise<void> => {
      await certificates.authority('ca');
      await certificates.signedBy('ca', 'server', GATEWAY);
      await certificates.signedBy('ca', 'client');
      for (const name of names) {
        const [made, own] = [certificates.file(name), certificates.file(`own-${name}`)];
        await copyFile(made, `${own}.new`);
        await chmod(`${own}.new`, 0o600);
        await chown(`${own}.new`, owner, owner);
        await rename(`${own}.new`, own);
      }
    };
    await rotate(0);
    const [caFile, certFile, keyFile] = ['ca.crt', 'server.crt', 'server.key'].map((name) =>
      certificates.file(name),
    ) as [string, string, string];
    const etcd = await Etcd.start({
      address: GATEWAY,
      tls: { caFile, certFile, keyFile, clientCertAuth: true },
    });
    try {
      await etcd.ctl('put', `${PREFIX}/config`, JSON.stringify(CONFIG));
      const [ca, cert, key] = names.map((name) => certificates.file(`own-${name}`));
      const a = network.start(
        1,
        ...[`--etcd-endpoints=${etcd.endpoint}`, `--etcd-cafile=${ca ?? ''}`],
        ...[`--etcd-certfile=${cert ?? ''}`, `--etcd-keyfile=${key ?? ''}`],
      );
      await a.logged(/flannel is ready/);
      assertReduced(a, KEPT | CAP_DAC_READ_SEARCH);
      await etcd.kill();
      await rotate(OTHER_USER);
      await etcd.restart();
      // While it was away nothing could be heard: that the lease goes is heard, and mended, over the new connection.
      await etcd.ctl('del', '--prefix', `${PREFIX}/subnets/`);
      await a.logged(/Lease renewed, new expiration/);
      const lease = await etcd.ctl('get', '--prefix', `${PREFIX}/subnets/`, '--print-value-only');
      assert.equal(lease.trim(), '{"PublicIP":"192.168.77.1","PublicIPv6":null}');
      assertReduced(a, KEPT | CAP_DAC_READ_SEARCH);
    } finally {
      await network.stopAll();
      await etcd.close();
    }
  });

  test('one without privileges hands over to one that has all', async () => {
    const [a, b] = await startBoth();
    const next = network.start(1);
    await next.logged(/Took over/);
    await a.ended();
    assert.equal(a.exitCode, 0);
    await next.host.exec('ping', '-c', '1', '-W', '2', b.overlayAddress);
    assertReduced(next, KEPT);
  });
});

describe('a /dev without net/tun', () => {
  const hide = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs tmpfs /dev/net && exec "$@"', 'sh'];
  test('gets the node where CAP_MKNOD allows it', { skip: noDeviceNodes() }, async () => {
    const a = network.startBehind(hide, 1);
    const b = network.start(2);
    await Promise.all([a.ready(1), b.ready(1)]);
    await a.host.exec('ping', '-c', '1', '-W', '2', b.overlayAddress);
    const pid = String(a.process.pid);
    const { stdout } = await a.host.exec('stat', '-c', '%F %a %t:%T', `/proc/${pid}/root/dev/net/tun`);
    assert.equal(stdout, 'character special file 600 a:c8\n');
    assert.deepEqual(namesOf(threadsOf(Number(pid))[0]?.capabilities.CapEff ?? 0n), [
      'CAP_NET_ADMIN',
      'CAP_NET_RAW',
    ]);
  });

  test('is told of where it does not', async () => {
    const weak = ['setpriv', '--bounding-set=-mknod', '--inh-caps=-mknod', '--'];
    await failsWith(
      network.startBehind([...hide, ...weak], 1),
      1,
      /no TUN driver behind \/dev\/net\/tun: run `modprobe tun`.*CAP_MKNOD/,
    );
  });
});
