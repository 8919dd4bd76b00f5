/** Nodes of two families, of IPv6 alone, and of IPv4 alone among those of two, with a real kube-apiserver. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Daemon } from '../../bench/daemon.js';
import { eventually } from '../lib/eventually.js';
import { DUAL, IPV6_ALONE } from '../lib/ipv6-networks.js';
import { CONFIG, failsWith } from '../lib/network.js';
import type { NetConf } from '../lib/network.js';
import { Cluster, NODES, PREFIX } from './cluster.js';

/** What a daemon that starts waits for, on a machine that has other things to do. */
const PATIENCE_MS = 30_000;
const SUBNET_KEYS = [
  ...['FLANNEL_NETWORK', 'FLANNEL_SUBNET'],
  ...['FLANNEL_IPV6_NETWORK', 'FLANNEL_IPV6_SUBNET'],
];

const v4Of = (number: number) => `10.244.${number}.0/24`;
const v6Of = (number: number) => `fd00:10:244:${number}::/64`;

let cluster: Cluster;

/** The annotations of a node's flanneld, by their names without the prefix. */
async function announced(name: string): Promise<Record<string, string>> {
  const all = Object.entries(await cluster.annotations(name));
  return Object.fromEntries(all.map(([key, value]) => [key.replace(PREFIX, ''), value]));
}

/** Annotations of a peer, with the prefix. */
function announcing(annotations: Readonly<Record<string, string>>): Record<string, string> {
  const all = Object.entries({ 'kube-subnet-manager': 'true', ...annotations });
  return Object.fromEntries(all.map(([name, value]) => [PREFIX + name, value]));
}

/** The flag for another net-conf than the cluster's. */
async function withConfig(name: string, config: NetConf): Promise<string> {
  const file = join(cluster.network.folder, `net-conf-${name}.json`);
  await writeFile(file, JSON.stringify(config));
  return `--net-config-path=${file}`;
}

async function startReady(number: number, ...flags: readonly string[]): Promise<Daemon> {
  const daemon = await cluster.start(number, ...flags);
  await daemon.logged(/flannel is ready/, PATIENCE_MS);
  return daemon;
}

async function reaches({ host }: Daemon, address: string): Promise<void> {
  await eventually(() => host.exec('ping', '-n', '-c', '1', '-W', '1', address), PATIENCE_MS);
}

/** Resolves once packets to `address` are sent to some host, or are answered with "no route". */
async function becomesRouted({ host }: Daemon, address: string, routed: boolean): Promise<void> {
  await eventually(async () => {
    const ping = `ping -n -c 1 -W 1 ${address} || true`;
    const { stdout } = await host.exec('sh', '-c', ping);
    assert.equal(!/Unreachable|No route/i.test(stdout), routed, stdout);
  }, PATIENCE_MS);
}

describe('a cluster of both families', () => {
  before(async () => {
    cluster = await Cluster.create(2, DUAL, (number) => [v4Of(number), v6Of(number)]);
  });
  afterEach(() => cluster.network.stopAll());
  after(() => cluster.close());

  test('a node gets both of its pod CIDRs, announces both families, and reaches the others over both', async () => {
    const [a, b] = await cluster.startAll();
    assert.ok(a && b);
    assert.deepEqual(
      SUBNET_KEYS.map((key) => a.subnetEnv(key)),
      ['10.244.0.0/16', '10.244.1.1/24', 'fd00:10:244::/48', 'fd00:10:244:1::1/64'],
    );
    assert.deepEqual(await announced('host1'), {
      'kube-subnet-manager': 'true',
      'backend-type': 'udp',
      'backend-data': 'null',
      'public-ip': '192.168.77.1',
      'backend-v6-data': '{}',
      'public-ipv6': 'fd77::1',
    });
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      await reaches(from, to.overlayAddress);
      await reaches(from, to.overlayAddress6);
    }
  });

  test('nodes that come, change and go do so in both families', async () => {
    const a = await startReady(1);
    const addresses = ['10.244.60.1', 'fd00:10:244:60::1'];
    const both = announcing({
      ...{ 'backend-type': 'udp', 'backend-data': 'null', 'backend-v6-data': '{}' },
      ...{ 'public-ip': '192.168.77.2', 'public-ipv6': 'fd77::2' },
    });
    await cluster.addNode('peer', [v4Of(60), v6Of(60)], both);
    for (const address of addresses) await becomesRouted(a, address, true);
    // Stock flannel looks at one family and misses what changes in the other alone.
    await cluster.annotate('peer', { [`${PREFIX}backend-v6-data`]: null });
    await a.logged(/no IPv6 to the host 192\.168\.77\.2/);
    await becomesRouted(a, 'fd00:10:244:60::1', false);
    await becomesRouted(a, '10.244.60.1', true);
    await cluster.annotate('peer', { [`${PREFIX}backend-v6-data`]: '{}' });
    await becomesRouted(a, 'fd00:10:244:60::1', true);
    await cluster.server.delete(`${NODES}/peer`);
    for (const address of addresses) await becomesRouted(a, address, false);
  });

  test('what the kubelet or somebody else takes away of either family is put back', async () => {
    await startReady(1);
    const before = await announced('host1');
    for (const name of ['public-ipv6', 'backend-v6-data', 'public-ip']) {
      await cluster.annotate('host1', { [PREFIX + name]: null });
      await eventually(async () => {
        assert.deepEqual(await announced('host1'), before);
      }, PATIENCE_MS);
    }
  });

  test('a node whose flanneld carries IPv4 alone has that, and disturbs nobody', async () => {
    const b = await startReady(2, await withConfig('v4', CONFIG));
    const a = await startReady(1);
    assert.deepEqual(await announced('host2'), {
      'kube-subnet-manager': 'true',
      'backend-type': '',
      'backend-data': 'null',
      'public-ip': '192.168.77.2',
    });
    await a.logged(/no IPv6 to the host 192\.168\.77\.2/);
    await reaches(a, b.overlayAddress);
    await reaches(b, a.overlayAddress);
    await becomesRouted(a, 'fd00:10:244:2::', false);
  });

  test('a node with one pod CIDR is reached over its family, and is itself told of the missing one', async () => {
    const v4 = announcing({ 'backend-type': '', 'backend-data': 'null', 'public-ip': '192.168.77.2' });
    const v6 = announcing({
      ...{ 'backend-type': 'udp', 'backend-data': 'null', 'backend-v6-data': '{}' },
      'public-ip': '192.168.77.2',
    });
    await cluster.addNode('four', [v4Of(61)], v4);
    await cluster.addNode('six', [v6Of(62)], v6);
    const a = await startReady(1);
    await becomesRouted(a, '10.244.61.1', true);
    await becomesRouted(a, 'fd00:10:244:62::1', true);
    assert.doesNotMatch(a.log, /no packets to the node|its lease (?:10\.244\.61|fd00)/);
    for (const [name, family] of [
      ['four', 'IPv6'],
      ['six', 'IPv4'],
    ] as const) {
      await failsWith(
        await cluster.startWith({ NODE_NAME: name }, 2),
        1,
        new RegExp(`node "${name}" has no ${family} pod CIDR; .*set Enable${family} to false`),
      );
      await cluster.server.delete(`${NODES}/${name}`);
    }
  });

  test('annotations of a family that is not carried any more are removed, those of operators are not', async () => {
    const overwrite = { [`${PREFIX}public-ipv6-overwrite`]: 'fd77::1' };
    await cluster.annotate('host1', overwrite);
    const restarted = async (config: NetConf): Promise<Record<string, string>> => {
      const daemon = await startReady(1, await withConfig('next', config));
      await daemon.stop();
      return announced('host1');
    };
    const manager = { 'kube-subnet-manager': 'true', 'backend-data': 'null' };
    const kept = { 'public-ipv6-overwrite': 'fd77::1' };
    const v4 = { 'public-ip': '192.168.77.1' };
    const v6 = { 'backend-v6-data': '{}', 'public-ipv6': 'fd77::1' };
    assert.deepEqual(await restarted(DUAL), { ...manager, ...kept, 'backend-type': 'udp', ...v4, ...v6 });
    assert.deepEqual(await restarted(CONFIG), { ...manager, ...kept, 'backend-type': '', ...v4 });
    assert.deepEqual(await restarted(IPV6_ALONE), { ...manager, ...kept, 'backend-type': 'udp', ...v6 });
    assert.deepEqual(await restarted(DUAL), { ...manager, ...kept, 'backend-type': 'udp', ...v4, ...v6 });
    await cluster.annotate('host1', { [`${PREFIX}public-ipv6-overwrite`]: null });
  });
});

describe('a cluster of IPv6 alone', () => {
  before(async () => {
    cluster = await Cluster.create(2, IPV6_ALONE, (number) => [v6Of(number)]);
  });
  after(() => cluster.close());

  test('its nodes announce IPv6 addresses alone, and reach each other', async () => {
    const [a, b] = await cluster.startAll();
    assert.ok(a && b);
    assert.equal(a.subnetEnv('FLANNEL_IPV6_NETWORK'), 'fd00:10:244::/48');
    assert.equal(a.subnetEnv('FLANNEL_IPV6_SUBNET'), 'fd00:10:244:1::1/64');
    assert.throws(() => a.subnetEnv('FLANNEL_SUBNET'), /has no FLANNEL_SUBNET/);
    assert.deepEqual(await announced('host1'), {
      'kube-subnet-manager': 'true',
      'backend-type': 'udp',
      'backend-data': 'null',
      'backend-v6-data': '{}',
      'public-ipv6': 'fd77::1',
    });
    await reaches(a, b.overlayAddress6);
    await reaches(b, a.overlayAddress6);
    await cluster.server.delete(`${NODES}/host2`);
    await becomesRouted(a, b.overlayAddress6, false);
  });
});
