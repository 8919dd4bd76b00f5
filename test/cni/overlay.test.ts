/** Pods of two hosts with flanneld, attached through the real bridge, host-local and portmap. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { join } from 'node:path';
import { tcpStream } from '../../bench/probes.js';
import { RunningTool } from '../../bench/tools.js';
import { GATEWAY } from '../../bench/topology.js';
import type { Host } from '../../bench/topology.js';
import { dyingWithParent } from '../../bench/lab.js';
import { TestNetwork } from '../lib/network.js';
import { eventually } from '../lib/eventually.js';
import { PluginError } from './cnitool.js';
import { Pods, leaseFolder, pluginConf, stateFolder } from './pods.js';

const MIB = 1 << 20;
/** Tells a client the address it is seen with. */
const MIRROR = `require('net').createServer((c) => c.end(c.remoteAddress)).listen(Number(process.argv[1]),
  process.argv[2], () => console.log('ready'))`;
const LOOK = `require('net').connect(Number(process.argv[2]), process.argv[1])
  .on('data', (d) => process.stdout.write(d)).on('error', (e) => { console.error(e.message); process.exit(1); })
  .setTimeout(5000, () => process.exit(1))`;

let network: TestNetwork;
let first: Pods;
let second: Pods;
before(async () => {
  network = await TestNetwork.create(2);
  first = await Pods.on(network.host(1), network.folder);
  second = await Pods.on(network.host(2), network.folder);
});
after(async () => {
  await first.close();
  await second.close();
  await network.close();
});

const leases = (number: number) =>
  readdirSync(join(leaseFolder(network.host(number), network.folder), 'cbr0')).filter((name) =>
    /^\d/.test(name),
  );
const states = (number: number) => readdirSync(stateFolder(network.host(number), network.folder));

async function look(from: Host, address: string, port: number): Promise<string> {
  const { stdout } = await from.exec(process.execPath, '-e', LOOK, address, String(port));
  return stdout.replace('::ffff:', '');
}

// The tests below tell one story, from a host without flanneld to one whose pods have crashed.

test('without flanneld: STATUS and ADD name the missing file', async () => {
  await assert.rejects(first.tool.ask('STATUS', pluginConf(first.network)), (error: PluginError) => {
    assert.deepEqual([error.code, error.cniVersion], [50, '1.1.0']);
    assert.match(error.msg, /open .*host1\.env: no such file or directory/);
    return true;
  });
  await assert.rejects(first.create('early'), (error: PluginError) => {
    assert.deepEqual([error.code, error.cniVersion, error.plugin], [11, '1.0.0', 'flannel']);
    assert.match(
      error.msg,
      /^failed to load flannel 'subnet\.env' file: open .*: no such file or directory\. Check the flannel pod log/,
    );
    return true;
  });
  assert.ok(!existsSync(stateFolder(network.host(1), network.folder)));
  await first.delete('early');
});

describe('with flanneld on both hosts', () => {
  let a1: Host, a2: Host, b1: Host, b2: Host;
  before(async () => {
    const [a, b] = await network.startAll();
    assert.ok(a && b);
    assert.equal(await first.tool.ask('STATUS', pluginConf(first.network)), '');
    const port = { hostPort: 8080, containerPort: 80, protocol: 'tcp' };
    ({ pod: a1 } = await first.create('one', [port]));
    ({ pod: a2 } = await first.create('two'));
    ({ pod: b1 } = await second.create('one'));
    ({ pod: b2 } = await second.create('two'));
  });

  test('each pod has an address of its host, the MTU of the overlay, and its config kept', async () => {
    assert.equal(new Set([a1, a2, b1, b2].map((pod) => pod.address)).size, 4);
    const env = readFileSync(join(network.folder, 'host1.env'), 'utf8');
    const subnet = /SUBNET=(.*)\.1\/24/.exec(env)?.[1] ?? '';
    assert.equal(a1.address.replace(/\.\d+$/, ''), subnet);
    assert.match(await a1.ip('link', 'show', 'eth0'), /mtu 1472/);
    assert.match(await a1.ip('route'), new RegExp(`default via ${subnet}\\.1 dev eth0`));
    assert.match(await a1.ip('route'), new RegExp(`10\\.244\\.0\\.0/16 via ${subnet}\\.1 dev eth0`));
    const kept = readFileSync(join(stateFolder(network.host(1), network.folder), 'host1-one'), 'utf8');
    assert.deepEqual(JSON.parse(kept), {
      cniVersion: '1.0.0',
      name: 'cbr0',
      type: 'bridge',
      hairpinMode: true,
      isDefaultGateway: true,
      isGateway: true,
      ipMasq: true,
      mtu: 1472,
      ipam: {
        type: 'host-local',
        dataDir: leaseFolder(network.host(1), network.folder),
        ranges: [[{ subnet: `${subnet}.0/24` }]],
        routes: [{ dst: '10.244.0.0/16' }],
      },
    });
  });

  test('hashed TCP passes between all pods of different hosts, and of one host', async () => {
    const pairs: [Host, Host][] = [
      [a1, b1],
      [b1, a2],
      [a2, b2],
      [b2, a1],
      [a1, a2],
    ];
    for (const [from, to] of pairs) await tcpStream(from, to, to.address, { bytes: 32 * MIB });
  });

  test('a hostPort leads to the pod', async () => {
    const mirror = await RunningTool.start(a1, process.execPath, ['-e', MIRROR, '80', '0.0.0.0'], /ready/);
    try {
      const { address } = network.host(1);
      assert.equal(await look(network.host(2), address, 8080), network.host(2).address);
    } finally {
      await mirror.kill();
    }
  });

  test('the outside sees the host in place of the pod', async () => {
    const command = dyingWithParent(process.execPath, ['-e', MIRROR, '8081', GATEWAY]);
    const mirror = spawn(command[0] ?? '', command.slice(1), { stdio: ['ignore', 'ignore', 'inherit'] });
    try {
      const seen = await eventually(() => look(b1, GATEWAY, 8081));
      assert.equal(seen, network.host(2).address);
    } finally {
      mirror.kill();
    }
  });

  test('CHECK passes, until somebody has taken the interface or the route', async () => {
    const attachment = second.attachment('two');
    await second.tool.check(second.network, attachment);
    await b2.ip('route', 'delete', '10.244.0.0/16');
    await assert.rejects(second.tool.check(second.network, attachment), PluginError);
    const gateway = b2.address.replace(/\d+$/, '1');
    await b2.ip('route', 'add', '10.244.0.0/16', 'via', gateway);
    await second.tool.check(second.network, attachment);
    await b2.ip('link', 'delete', 'eth0');
    await assert.rejects(second.tool.check(second.network, attachment), PluginError);
  });

  test('CHECK of a container that was never added says so', async () => {
    await assert.rejects(second.tool.check(second.network, second.attachment('nobody')), {
      code: 3,
      plugin: 'flannel',
    });
  });

  test('DEL gives everything back, also the second time and for what was broken', async () => {
    for (const name of ['one', 'two']) {
      await second.tool.del(second.network, second.attachment(name));
      await second.tool.del(second.network, second.attachment(name));
    }
    assert.deepEqual([leases(2), states(2)], [[], []]);
    assert.doesNotMatch(await b1.ip('link'), /eth0/);
    assert.doesNotMatch(await network.host(2).ip('link'), /veth/);
  });

  test('GC gives back what crashed pods held, and leaves the others theirs', async () => {
    await first.create('crashed');
    await first.crash('crashed');
    assert.deepEqual([leases(1).length, states(1).length], [3, 3]);
    // The config of this one is gone, too: only its address is left.
    await first.create('forgotten');
    await first.crash('forgotten');
    const folder = stateFolder(network.host(1), network.folder);
    rmSync(join(folder, 'host1-forgotten'));
    // And this one is of another network, which this GC is not about.
    writeFileSync(join(folder, 'other'), '{"name":"other","type":"bridge"}');
    const valid = ['one', 'two'].map((name) => ({ containerID: first.attachment(name).id, ifname: 'eth0' }));
    const garbage = { ...pluginConf(first.network), 'cni.dev/valid-attachments': valid };
    assert.equal(await first.tool.ask('GC', garbage), '');
    assert.deepEqual(leases(1).sort(), [a1.address, a2.address].sort());
    assert.deepEqual(states(1).sort(), ['host1-one', 'host1-two', 'other']);
    await first.tool.check(first.network, first.attachment('two'));
    assert.equal(await first.tool.ask('GC', garbage), '');
  });

  test('GC without the list of attachments removes nothing', async () => {
    await assert.rejects(first.tool.ask('GC', pluginConf(first.network)), { code: 7 });
    assert.equal(leases(1).length, 2);
  });
});
