/** Paths that become narrow in the middle of traffic: who learns of it, and what goes on. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { tcpStream } from '../../bench/probes.js';
import type { Host } from '../../bench/topology.js';
import { eventually } from '../lib/eventually.js';
import { learns, NARROW, NarrowingPath, pathMtu, pingWith } from '../lib/narrowing-path.js';
import type { NetConf } from '../lib/network.js';
import { CONFIG, TestNetwork } from '../lib/network.js';
import { endAccounted } from '../lib/traffic.js';

const FITS = NARROW - 28; // less IPv4 and UDP
const BYTES = 4 << 20;
const PROBING: NetConf = { ...CONFIG, Backend: { Type: 'udp', ProbeMTU: true } };

let network: TestNetwork | NarrowingPath;
afterEach(() => network.close());

async function create(config: NetConf = CONFIG): Promise<NarrowingPath> {
  const path = await NarrowingPath.create(config);
  network = path;
  return path;
}

describe('a path that becomes narrow and says so', () => {
  for (const tier of ['basic', 'full']) {
    test(`${tier}: a stream goes on, and its sender learns what fits`, async () => {
      const path = await create();
      const [a, b] = await path.startBoth(`--dataplane-tier=${tier}`);
      const { before, all } = await path.streamMeanwhile(a, b);
      assert.ok(all > before, `${all} bytes, ${before} of them before`);

      await learns(a, NARROW);
      assert.match(await a.host.ip('route', 'get', b.overlayAddress), new RegExp(` mtu ${FITS}\\b`));
      await tcpStream(a.host, b.host, b.overlayAddress, { bytes: BYTES });
      const [whole] = await pingWith(a, b, { size: FITS, df: 'do' });
      assert.equal(whole, 3);
      const [cut] = await pingWith(a, b, { size: 1472, df: 'dont' });
      assert.equal(cut, 3, 'without DF the kernel cuts');
      await endAccounted(a, b);
      assert.ok((a.counters().get('encap_frag_needed') ?? 0) > 0);
      assert.equal(b.counters().get('encap_frag_needed'), 0);
    });
  }

  test('a ping that must not be cut is answered with the size that fits', async () => {
    const path = await create();
    const [a, b] = await path.startBoth();
    await path.setLinkMtu(NARROW);
    // The first ones are lost on the way; they teach the kernel, and it the dataplane.
    await eventually(async () => {
      const [, output] = await pingWith(a, b, { size: 1472, df: 'do' });
      assert.match(output, new RegExp(`From \\S+ icmp_seq=\\d+ Frag needed and DF set \\(mtu = ${FITS}\\)`));
    });
    await path.setLinkMtu(1500);
    await eventually(async () => {
      await a.host.ip('route', 'flush', 'cache');
      assert.equal((await pingWith(a, b, { size: 1472, df: 'do' }))[0], 3);
    });
    assert.equal(await pathMtu(a), 1500, 'as soon as the kernel has forgotten it');
  });
});

describe('a path that is narrow and says nothing', () => {
  test('swallows what is too large: datagrams have DF, and nobody learns', async () => {
    const path = await create();
    const [a, b] = await path.startBoth();
    await path.silenceRouter();
    await path.setLinkMtu(NARROW);
    assert.deepEqual((await pingWith(a, b, { size: FITS, df: 'do' }))[0], 3);
    for (const df of ['do', 'dont'] as const) {
      const [whole, output] = await pingWith(a, b, { size: 1472, df });
      assert.equal(whole, 0, output);
    }
    assert.equal(await pathMtu(a), 1500);
  });

  test('carries streams with an MTU in the network config that fits', async () => {
    const path = await create({ ...CONFIG, Backend: { Type: 'udp', MTU: FITS } });
    const [a, b] = await path.startBoth();
    await path.silenceRouter();
    await path.setLinkMtu(NARROW);
    await tcpStream(a.host, b.host, b.overlayAddress, { bytes: BYTES });
    await endAccounted(a, b);
  });

  test('carries streams with net.ipv4.ip_no_pmtu_disc: routers cut datagrams without DF', async () => {
    const path = await create();
    for (const host of [1, 2])
      await path.network.host(host).exec('sysctl', '-qw', 'net.ipv4.ip_no_pmtu_disc=1');
    const [a, b] = await path.startBoth();
    await path.silenceRouter();
    await path.setLinkMtu(NARROW);
    await tcpStream(a.host, b.host, b.overlayAddress, { bytes: BYTES });
    await endAccounted(a, b);
  });

  test('carries streams of senders that probe, with net.ipv4.tcp_mtu_probing', async () => {
    const path = await create();
    await path.network.host(1).exec('sysctl', '-qw', 'net.ipv4.tcp_mtu_probing=1');
    const [a, b] = await path.startBoth();
    await path.silenceRouter();
    await path.setLinkMtu(NARROW);
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
        const path = await create(PROBING);
        const [a, b] = await path.startBoth(`--dataplane-tier=${tier}`);
        if (filtered) await path.silenceRouter();
        const { before, all } = await path.streamMeanwhile(a, b);
        assert.ok(all > before, `${all} bytes, ${before} of them before`);
        await learns(a, NARROW);
        const [whole] = await pingWith(a, b, { size: FITS, df: 'do' });
        assert.equal(whole, 3);
        await endAccounted(a, b);
        assert.ok((a.counters().get('encap_frag_needed') ?? 0) > 0);
        assert.ok((b.counters().get('decap_probes_answered') ?? 0) > 0);
      });
    }
  }

  test('send probes to those alone that announce to answer', async () => {
    const plain = await TestNetwork.create(2, { config: PROBING });
    network = plain;
    const [a, silent] = [plain.start(1), plain.host(2)];
    await a.logged(/flannel is ready/);
    const probes = await counted(silent, '-p', 'udp', '--dport', '8285', '-m', 'length', '--length', '500:');
    const announce = (data: string) =>
      writeFile(
        join(plain.store, 'subnets', '10.244.99.0-24'),
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
      const plain = await TestNetwork.create(2, {
        config: { ...CONFIG, Backend: { Type: 'udp', ClampMSS: clamp } },
      });
      network = plain;
      const [a, b] = await plain.startAll();
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
