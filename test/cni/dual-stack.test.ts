/** Pods of two hosts in a network of both families: from flanneld's subnet.env to packets between them. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { tcpStream } from '../../bench/probes.js';
import { Cidr4 } from '../../src/ip.js';
import { Cidr6 } from '../../src/ip6.js';
import { eventually } from '../lib/eventually.js';
import { DUAL } from '../lib/ipv6-networks.js';
import { TestNetwork } from '../lib/network.js';
import { Pods, stateFolder } from './pods.js';

const MIB = 1 << 20;

let network: TestNetwork;
let first: Pods;
let second: Pods;
before(async () => {
  network = await TestNetwork.create(2, { config: DUAL });
  first = await Pods.on(network.host(1), network.folder);
  second = await Pods.on(network.host(2), network.folder);
});
after(async () => {
  await first.close();
  await second.close();
  await network.close();
});

const networkOf = (cidr: string) => (Cidr4.parse(cidr) ?? Cidr6.parse(cidr))?.network().toString();
const withoutLength = (cidr: string) => cidr.replace(/\/.*/, '');

test('pods have an address of each family in the subnets of their host, and reach each other over both', async () => {
  const daemons = await network.startAll('--ip-masq');
  const one = await first.create('one');
  const two = await second.create('one');
  for (const [i, { result }] of [one, two].entries()) {
    const gateways = ['FLANNEL_SUBNET', 'FLANNEL_IPV6_SUBNET'].map((key) => daemons[i]?.subnetEnv(key) ?? '');
    assert.deepEqual(
      result.ips.map(({ address }) => networkOf(address)),
      gateways.map(networkOf),
    );
    // The bridge has the address that flanneld names.
    assert.deepEqual(
      result.ips.map(({ gateway }) => gateway),
      gateways.map(withoutLength),
    );
  }
  const kept = readFileSync(join(stateFolder(network.host(1), network.folder), 'host1-one'), 'utf8');
  const { ipam } = JSON.parse(kept) as { ipam: Record<string, unknown> };
  assert.deepEqual(ipam.routes, [{ dst: '10.244.0.0/16' }, { dst: 'fd00:10:244::/48' }]);
  for (const [from, to] of [
    [one, two],
    [two, one],
  ] as const) {
    assert.match(await from.pod.ip('route'), /^10\.244\.0\.0\/16 via /m);
    assert.match(await from.pod.ip('-6', 'route'), /^fd00:10:244::\/48 via /m);
    for (const address of to.result.ips.map((ip) => withoutLength(ip.address))) {
      await eventually(() => from.pod.exec('ping', '-n', '-c', '1', '-W', '1', address));
      await tcpStream(from.pod, to.pod, address, { bytes: 8 * MIB });
    }
  }
  await first.tool.check(first.network, first.attachment('one'));
  await first.delete('one');
  await second.delete('one');
});
