/** The procedures of docs/migration.md, as far as they are commands on hosts: from vxlan to udp and back, in one etcd. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Daemon } from '../../bench/daemon.js';
import { GATEWAY } from '../../bench/topology.js';
import type { Host } from '../../bench/topology.js';
import { Etcd } from '../lib/etcd.js';
import { eventually } from '../lib/eventually.js';
import { CONFIG, TestNetwork } from '../lib/network.js';

const PREFIX = '/coreos.com/network';
const VXLAN_PORT = '8472';

let network: TestNetwork;
let etcd: Etcd;
before(async () => {
  network = await TestNetwork.create(2);
  etcd = await Etcd.start({ address: GATEWAY });
});
after(async () => {
  await network.stopAll();
  await etcd.close();
  await network.close();
});

const subnetOf = (number: number) => `10.244.${number * 7}.0`;
const macOf = (number: number) => `02:00:00:00:00:0${number}`;
const other = (number: number) => 3 - number;

/** What stock flannel's vxlan backend makes on a host, and leaves there when it ends. */
async function makeVxlan(number: number): Promise<void> {
  const host = network.host(number);
  const vxlan = ['type', 'vxlan', 'id', '1', 'dev', 'eth0', 'local', host.address, 'dstport', VXLAN_PORT];
  await host.ip('link', 'add', 'flannel.1', 'address', macOf(number), ...vxlan, 'nolearning');
  await host.ip('address', 'add', `${subnetOf(number)}/32`, 'dev', 'flannel.1');
  await host.ip('link', 'set', 'flannel.1', 'up', 'mtu', '1450');
  const peer = other(number);
  const [base, mac] = [subnetOf(peer), macOf(peer)];
  await host.ip('neigh', 'add', base, 'lladdr', mac, 'dev', 'flannel.1', 'nud', 'permanent');
  await host.exec('bridge', 'fdb', 'add', mac, 'dev', 'flannel.1', 'dst', network.host(peer).address);
  await host.ip('route', 'add', `${base}/24`, 'via', base, 'dev', 'flannel.1', 'onlink');
}

async function announceVxlan(number: number): Promise<void> {
  const value = {
    PublicIP: network.host(number).address,
    PublicIPv6: null,
    BackendType: 'vxlan',
    BackendData: { VNI: 1, VtepMAC: macOf(number) },
  };
  await etcd.ctl('put', `${PREFIX}/subnets/${subnetOf(number)}-24`, JSON.stringify(value));
}

const ping = (from: Host, to: number, size: number) =>
  from.exec('ping', '-n', '-c', '1', '-W', '1', '-M', 'do', '-s', `${size}`, subnetOf(to));

/** The three commands of the page; the first has been. */
async function change(number: number): Promise<Daemon> {
  await network.host(number).ip('link', 'delete', 'flannel.1');
  const daemon = network.start(number, `--etcd-endpoints=${etcd.endpoint}`);
  await daemon.logged(/flannel is ready/);
  return daemon;
}

test('from vxlan to udp, host by host, and back', async () => {
  await etcd.ctl('put', `${PREFIX}/config`, JSON.stringify({ ...CONFIG, Backend: { Type: 'vxlan' } }));
  for (const number of [1, 2]) await announceVxlan(number);
  for (const number of [1, 2]) await makeVxlan(number);
  await ping(network.host(1), 2, 1422);
  await etcd.ctl('put', `${PREFIX}/config`, JSON.stringify(CONFIG));

  const first = await change(1);
  assert.equal(first.overlaySubnet, `${subnetOf(1)}/24`, 'it has the subnet that it had');
  await assert.rejects(ping(network.host(1), 2, 56), 'the two are cut off from each other');
  const second = await change(2);
  assert.equal(second.overlaySubnet, `${subnetOf(2)}/24`);
  for (const number of [1, 2]) {
    const host = network.host(number);
    assert.match(await host.ip('route', 'get', subnetOf(other(number))), / dev flannel0 /);
    await eventually(() => ping(host, other(number), 1444));
    const value = await etcd.ctl('get', '--print-value-only', `${PREFIX}/subnets/${subnetOf(number)}-24`);
    assert.equal(value.trim(), `{"PublicIP":"${host.address}","PublicIPv6":null}`);
  }

  for (const daemon of [first, second]) assert.equal(await daemon.stop(), 0);
  for (const number of [1, 2]) {
    assert.doesNotMatch(await network.host(number).ip('-br', 'link'), /flannel/);
    await makeVxlan(number);
  }
  await ping(network.host(1), 2, 1422);
});

test('a route of vxlan that was forgotten keeps the traffic, and is named by ip route get', async () => {
  await network.host(1).ip('link', 'delete', 'flannel.1');
  await network.host(2).ip('link', 'delete', 'flannel.1');
  await makeVxlan(1);
  const daemons = [1, 2].map((number) => network.start(number, `--etcd-endpoints=${etcd.endpoint}`));
  for (const daemon of daemons) await daemon.logged(/flannel is ready/);
  assert.match(await network.host(1).ip('route', 'get', subnetOf(2)), / dev flannel\.1 /);
  await network.host(1).ip('link', 'delete', 'flannel.1');
  await eventually(() => ping(network.host(1), 2, 1444));
});
