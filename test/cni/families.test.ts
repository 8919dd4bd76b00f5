/** What depends on subnet.env alone: both families, configs kept, a subnet that has changed, delegates of CNI 1.1. */
import assert from 'node:assert/strict';
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { tcpStream } from '../../bench/probes.js';
import { TestNetwork } from '../lib/network.js';
import { PluginError } from './cnitool.js';
import { Pods, leaseFolder, pluginConf, stateFolder } from './pods.js';

const MIB = 1 << 20;
const V4 = 'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n';
const V6 = 'FLANNEL_IPV6_NETWORK=fd00:10:1::/48\nFLANNEL_IPV6_SUBNET=fd00:10:1:17::1/64\n';
const REST = 'FLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n';

let network: TestNetwork;
let pods: Pods;
before(async () => {
  network = await TestNetwork.create(1);
  pods = await Pods.on(network.host(1), network.folder);
});
afterEach(async () => {
  await pods.close();
  const [host, { folder }] = [network.host(1), network];
  rmSync(join(folder, 'host1-cni/bridge'), { force: true });
  for (const left of [stateFolder(host, folder), leaseFolder(host, folder)]) {
    rmSync(left, { recursive: true, force: true });
  }
});
after(() => network.close());

function writeEnv(text: string): void {
  writeFileSync(join(network.folder, 'host1.env'), text);
}

/** Into CNI_PATH of the host. */
function installPlugin(name: string, script: string): void {
  const path = join(network.folder, 'host1-cni', name);
  writeFileSync(path, `#!/bin/sh\n${script}`);
  chmodSync(path, 0o755);
}

test('dual stack: pods of one host reach each other over both families', async () => {
  writeEnv(V4 + V6 + REST);
  const { pod: one } = await pods.create('one');
  const { pod: two, result } = await pods.create('two');
  const [v4, v6] = result.ips.map(({ address }) => address.replace(/\/.*/, ''));
  assert.match(v4 ?? '', /^10\.1\.17\./);
  assert.match(v6 ?? '', /^fd00:10:1:17::/);
  assert.match(await two.ip('-6', 'route'), /fd00:10:1::\/48 via fd00:10:1:17::1 dev eth0/);
  await tcpStream(one, two, v4 ?? '', { bytes: MIB });
  await tcpStream(one, two, v6 ?? '', { bytes: MIB });
  await pods.tool.check(pods.network, pods.attachment('two'));
  await two.ip('-6', 'address', 'delete', `${v6 ?? ''}/64`, 'dev', 'eth0');
  await assert.rejects(pods.tool.check(pods.network, pods.attachment('two')), PluginError);
  await pods.delete('one');
  await pods.delete('two');
});

test('IPv6 alone', async () => {
  writeEnv(V6 + REST);
  const { result } = await pods.create('six');
  assert.deepEqual(
    result.ips.map(({ address }) => address.replace(/::.*\//, '::/')),
    ['fd00:10:1:17::/64'],
  );
  await pods.delete('six');
});

test('the config kept is the one that stock flannel keeps', async () => {
  writeEnv(V4 + REST);
  const dataDir = stateFolder(network.host(1), network.folder);
  const conf = { type: 'flannel', subnetFile: join(network.folder, 'host1.env'), dataDir };
  // A delegate that fails: no chain of version 0.1.0 keeps its addresses in a folder of the test.
  installPlugin('bridge', 'cat >/dev/null; echo \'{"code":77,"msg":"no","details":"at all"}\'; exit 1');
  const { tool } = pods;
  const bare = { name: 'cni-flannel', plugins: [conf] } as unknown as Pods['network'];
  const attachment = { id: 'kept', netns: '/run/netns/none' };
  await assert.rejects(tool.add(bare, attachment), { code: 77, msg: 'no', details: 'at all' });
  assert.equal(
    readFileSync(join(dataDir, 'kept'), 'utf8'),
    '{"ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.1.17.0/24"}]],"routes":[{"dst":"10.1.0.0/16"}],' +
      '"type":"host-local"},"isGateway":true,"mtu":1472,"name":"cni-flannel","type":"bridge"}',
  );
  // A DEL that fails keeps the config for the next one.
  await assert.rejects(tool.del(bare, attachment), { code: 77 });
  installPlugin('bridge', 'cat >/dev/null');
  await tool.del(bare, attachment);
  assert.throws(() => readFileSync(join(dataDir, 'kept')), { code: 'ENOENT' });
});

test('CHECK fails where the host has another subnet now', async () => {
  writeEnv(V4 + REST);
  await pods.create('moved');
  await pods.tool.check(pods.network, pods.attachment('moved'));
  writeEnv(V4.replace('10.1.17.1', '10.1.18.1') + REST);
  await assert.rejects(
    pods.tool.check(pods.network, pods.attachment('moved')),
    /the container has 10\.1\.17\.\d+\/24, and this host's subnet is 10\.1\.18\.0\/24 now/,
  );
  await pods.delete('moved');
});

test('a delegate that knows CNI 1.1 is asked at STATUS and GC, any other is not', async () => {
  writeEnv(V4 + REST);
  const log = join(network.folder, 'calls');
  const version = (name: string) => `{"cniVersion":"${name}","supportedVersions":["1.0.0","${name}"]}`;
  const delegate = (name: string) =>
    `[ $CNI_COMMAND = VERSION ] && { cat >/dev/null; echo '${version(name)}'; exit; }
     echo "$CNI_COMMAND $(cat)" >> ${log}; [ $CNI_COMMAND != STATUS ] || { echo '{"code":51,"msg":"cable"}'; exit 1; }`;
  const garbage = { ...pluginConf(pods.network), 'cni.dev/valid-attachments': null };
  writeFileSync(log, '');
  installPlugin('bridge', delegate('1.0.0'));
  await pods.tool.ask('STATUS', pluginConf(pods.network));
  await pods.tool.ask('GC', garbage);
  assert.equal(readFileSync(log, 'utf8'), '');
  installPlugin('bridge', delegate('1.1.0'));
  await assert.rejects(pods.tool.ask('STATUS', pluginConf(pods.network)), { code: 51, msg: 'cable' });
  await pods.tool.ask('GC', garbage);
  assert.match(
    readFileSync(log, 'utf8'),
    /^STATUS \{.*"type":"bridge"\}\nGC \{"cni\.dev\/valid-attachments":null,.*"ranges":\[\[\{"subnet":"10\.1\.17\.0\/24"\}\]\]/,
  );
});
