/**
 * A router on the way whose next link becomes narrow:
 *
 *      host1 ------ underlay ------ host3 ------------ host2
 *   192.168.77.1   MTU 1500    .77.3    192.168.78.3   .78.2
 *                                    1500, later 1400
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { FLANNELD } from '../../bench/daemon.js';
import type { Daemon } from '../../bench/daemon.js';
import { tcpStream } from '../../bench/probes.js';
import type { Host } from '../../bench/topology.js';
import type { StatusReport } from '../../src/status/report.js';
import { eventually } from '../lib/eventually.js';
import type { NetConf } from '../lib/network.js';
import { CONFIG, TestNetwork } from '../lib/network.js';
import { endAccounted } from '../lib/traffic.js';

const PUBLIC_IP = '192.168.78.2';
const NARROW = 1400;
const FITS = NARROW - 28; // less IPv4 and UDP
const BYTES = 4 << 20;
const PROBING: NetConf = { ...CONFIG, Backend: { Type: 'udp', ProbeMTU: true } };

let network: TestNetwork;
afterEach(() => network.close());

async function create(config: NetConf = CONFIG): Promise<void> {
  network = await TestNetwork.create(3, { config });
  const [a, b, router] = [network.host(1), network.host(2), network.host(3)];
  await b.ip('link', 'set', 'eth0', 'down');
  await router.ip('link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'eth1', 'netns', b.name);
  await router.ip('address', 'add', '192.168.78.3/24', 'dev', 'eth1');
  await b.ip('address', 'add', `${PUBLIC_IP}/24`, 'dev', 'eth1');
  for (const host of [router, b]) await host.ip('link', 'set', 'eth1', 'up');
  await router.exec('sysctl', '-qw', 'net.ipv4.ip_forward=1');
  await a.ip('route', 'add', '192.168.78.0/24', 'via', router.address);
  await b.ip('route', 'add', 'default', 'via', '192.168.78.3');
}

async function startBoth(...flags: readonly string[]): Promise<[Daemon, Daemon]> {
  const a = network.start(1, ...flags);
  const b = network.start(2, ...flags, '--iface=eth1');
  await Promise.all([a.ready(1), b.ready(1)]);
  return [a, b];
}

/** Sets what the link between the router and the second host carries, each way. */
async function setLinkMtu(mtu: number): Promise<void> {
  await network.host(3).ip('link', 'set', 'eth1', 'mtu', String(mtu));
  await network.host(2).ip('route', 'replace', 'default', 'via', '192.168.78.3', 'mtu', String(mtu));
}

/** The router says no word about packets that are too large for it. */
async function filterIcmp(): Promise<void> {
  const rule = ['-A', 'OUTPUT', '-p', 'icmp', '--icmp-type', 'fragmentation-needed', '-j', 'DROP'];
  await network.host(3).exec('iptables', ...rule);
}

/** How many of three packets of `size` bytes are answered, and all that ping(8) says. */
async function ping(from: Daemon, to: Daemon, size: number, df: 'do' | 'dont'): Promise<[number, string]> {
  const command = `ping -n -c 3 -i 0.2 -W 1 -M ${df} -s ${size - 28} ${to.overlayAddress} 2>&1 || true`;
  const { stdout } = await from.host.exec('sh', '-c', command);
  return [Number(/(\d+) received/.exec(stdout)?.[1]), stdout];
}

/** The bytes that the only stream from one to the other has carried so far; false while it has none. */
async function carriedBy({ host }: Daemon, to: Daemon): Promise<number | false> {
  const { stdout } = await host.exec('ss', '-Htin', 'dst', to.overlayAddress);
  return Number(/bytes_acked:(\d+)/.exec(stdout)?.[1] ?? 0) || false;
}

/** What the first host says of the path to the second. */
async function pathMtu({ host, subnetFile }: Daemon): Promise<number | null | undefined> {
  const flags = ['status', '--json', `--subnet-file=${subnetFile}`];
  const { stdout } = await host.exec(process.execPath, FLANNELD, ...flags);
  return (JSON.parse(stdout) as StatusReport).peers[0]?.pathMtu;
}

describe('a path that becomes narrow and says so', () => {
  for (const tier of ['basic', 'full']) {
    test(`${tier}: a stream goes on, and its sender learns what fits`, async () => {
      await create();
      const [a, b] = await startBoth(`--dataplane-tier=${tier}`);
      const stream = tcpStream(a.host, b.host, b.overlayAddress, { seconds: 4 });
      const before = await eventually(() => carriedBy(a, b));
      await setLinkMtu(NARROW);
      const { received } = await stream;
      assert.ok(received.bytes > before, `${received.bytes} bytes, ${before} of them before`);

      assert.equal(await pathMtu(a), NARROW);
      assert.match(await a.host.ip('route', 'get', b.overlayAddress), new RegExp(` mtu ${FITS}\\b`));
      await tcpStream(a.host, b.host, b.overlayAddress, { bytes: BYTES });
      const [whole] = await ping(a, b, FITS, 'do');
      assert.equal(whole, 3);
      const [cut] = await ping(a, b, 1472, 'dont');
      assert.equal(cut, 3, 'without DF the kernel cuts');
      await endAccounted(a, b);
      assert.ok((a.counters().get('encap_frag_needed') ?? 0) > 0);
      assert.equal(b.counters().get('encap_frag_needed'), 0);
    });
  }

  test('a ping that must not be cut is answered with the size that fits', async () => {
    await create();
    const [a, b] = await startBoth();
    await setLinkMtu(NARROW);
    // The first ones are lost on the way; they teach the kernel, and it the dataplane.
    await eventually(async () => {
      const [, output] = await ping(a, b, 1472, 'do');
      assert.match(output, new RegExp(`From \\S+ icmp_seq=\\d+ Frag needed and DF set \\(mtu = ${FITS}\\)`));
    });
    await setLinkMtu(1500);
    await eventually(async () => {
      await a.host.ip('route', 'flush', 'cache');
      assert.equal((await ping(a, b, 1472, 'do'))[0], 3);
    });
    assert.equal(await pathMtu(a), 1500, 'as soon as the kernel has forgotten it');
  });
});

describe('a path that is narrow and says nothing', () => {
  test('swallows what is too large: datagrams have DF, and nobody learns', async () => {
    await create();
    const [a, b] = await startBoth();
    await filterIcmp();
    await setLinkMtu(NARROW);
    assert.deepEqual((await ping(a, b, FITS, 'do'))[0], 3);
    for (const df of ['do', 'dont'] as const) {
      const [whole, output] = await ping(a, b, 1472, df);
      assert.equal(whole, 0, output);
    }
    assert.equal(await pathMtu(a), 1500);
  });

  test('carries streams with an MTU in the network config that fits', async () => {
    await create({ ...CONFIG, Backend: { Type: 'udp', MTU: FITS } });
    const [a, b] = await startBoth();
    await filterIcmp();
    await setLinkMtu(NARROW);
    await tcpStream(a.host, b.host, b.overlayAddress, { bytes: BYTES });
    await endAccounted(a, b);
  });

  test('carries streams with net.ipv4.ip_no_pmtu_disc: routers cut datagrams without DF', async () => {
    await create();
    for (const host of [1, 2]) await network.host(host).exec('sysctl', '-qw', 'net.ipv4.ip_no_pmtu_disc=1');
    const [a, b] = await startBoth();
    await filterIcmp();
    await setLinkMtu(NARROW);
    await tcpStream(a.host, b.host, b.overlayAddress, { bytes: BYTES });
    await endAccounted(a, b);
  });

  test('carries streams of senders that probe, with net.ipv4.tcp_mtu_probing', async () => {
    await create();
    await network.host(1).exec('sysctl', '-qw', 'net.ipv4.tcp_mtu_probing=1');
    const [a, b] = await startBoth();
    await filterIcmp();
    await setLinkMtu(NARROW);
    await tcpStream(a.host, b.host, b.overlayAddress, { bytes: BYTES });
    await endAccounted(a, b);
  });
});

/** Counts what arrives at a host and fits `match`, until the next such count begins. */
async function counted(host: Host, ...match: readonly string[]): Promise<() => Promise<number>> {
  await host.exec('iptables', '-A', 'INPUT', ...match);
  return async () => {
    const { stdout } = await host.exec('iptables', '-nvxL', 'INPUT');
    const [last = ''] = stdout.trimEnd().split('\n').slice(-1);
    return Number(/^\s*(\d+)/.exec(last)?.[1]);
  };
}

describe('hosts that probe', () => {
  for (const tier of ['basic', 'full']) {
    for (const filtered of [true, false]) {
      test(`${tier}: a stream goes on over a path that becomes narrow and ${filtered ? 'says nothing' : 'says so'}`, async () => {
        await create(PROBING);
        const [a, b] = await startBoth(`--dataplane-tier=${tier}`);
        if (filtered) await filterIcmp();
        const stream = tcpStream(a.host, b.host, b.overlayAddress, { seconds: 4 });
        const before = await eventually(() => carriedBy(a, b));
        await setLinkMtu(NARROW);
        const { received } = await stream;
        assert.ok(received.bytes > before, `${received.bytes} bytes, ${before} of them before`);
        assert.equal(await pathMtu(a), NARROW);
        const [whole] = await ping(a, b, FITS, 'do');
        assert.equal(whole, 3);
        await endAccounted(a, b);
        assert.ok((a.counters().get('encap_frag_needed') ?? 0) > 0);
        assert.ok((b.counters().get('decap_probes_answered') ?? 0) > 0);
      });
    }
  }

  test('send probes to those alone that announce to answer', async () => {
    network = await TestNetwork.create(2, { config: PROBING });
    const [a, silent] = [network.start(1), network.host(2)];
    await a.logged(/flannel is ready/);
    const probes = await counted(silent, '-p', 'udp', '--dport', '8285', '-m', 'length', '--length', '500:');
    const announce = (data: string) =>
      writeFile(
        join(network.store, 'subnets', '10.244.99.0-24'),
        `{"PublicIP":"${silent.address}","PublicIPv6":null${data}}`,
      );
    const send = () => a.host.exec('sh', '-c', 'ping -n -c 40 -i 0.1 -W 1 10.244.99.1 || true');
    await announce('');
    await a.logged(/Subnet added: 10\.244\.99\.0\/24/);
    await send();
    assert.equal(await probes(), 0);
    await announce(',"BackendData":{"ProbeMTU":true}');
    await eventually(async () => {
      await send();
      assert.ok((await probes()) > 0);
    });
  });
});

describe('the segment size that a SYN announces', () => {
  for (const [clamp, mss] of [
    [true, 1432],
    [false, 1460],
  ] as const) {
    test(`${mss} where a host promises 1460 and ClampMSS is ${clamp}`, async () => {
      network = await TestNetwork.create(2, {
        config: { ...CONFIG, Backend: { Type: 'udp', ClampMSS: clamp } },
      });
      const [a, b] = await network.startAll();
      assert.ok(a && b);
      await a.host.ip('route', 'add', b.overlaySubnet, 'dev', 'flannel0', 'advmss', '1460');
      const syns = await counted(
        b.host,
        ...['-i', 'flannel0', '-p', 'tcp', '--syn', '-m', 'tcpmss', '--mss', String(mss)],
      );
      await tcpStream(a.host, b.host, b.overlayAddress, { bytes: BYTES });
      assert.equal(await syns(), 1);
      if (clamp) {
        await a.host.ip('link', 'set', 'eth0', 'mtu', String(NARROW));
        await eventually(async () => {
          assert.match(await a.host.ip('link', 'show', 'flannel0'), new RegExp(` mtu ${FITS} `));
        });
        const smaller = await counted(
          b.host,
          ...['-i', 'flannel0', '-p', 'tcp', '--syn', '-m', 'tcpmss', '--mss', String(FITS - 40)],
        );
        await tcpStream(a.host, b.host, b.overlayAddress, { bytes: BYTES });
        assert.equal(await smaller(), 1, 'the MTU has changed');
      }
      await endAccounted(a, b);
    });
  }
});
