/** What the rules do to packets of containers and hosts, and that nothing is lost while they change. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Daemon } from '../../bench/daemon.js';
import { GATEWAY } from '../../bench/topology.js';
import type { Host } from '../../bench/topology.js';
import { eventually } from '../lib/eventually.js';
import { CONFIG, TestNetwork } from '../lib/network.js';
import { Ping } from '../lib/ping.js';
import { Pod } from '../lib/pods.js';
import { expectedIptables, expectedNft, iptablesRules, nftTable, withVariant } from '../lib/rules.js';
import type { Variant } from '../lib/rules.js';

const ENDPOINT = fileURLToPath(new URL('../lib/endpoint.js', import.meta.url));
const FLAGS = ['--ip-masq', '--iptables-resync=1'];
const GROUP = '239.9.9.9';

let network: TestNetwork;
let daemons: Daemon[];
let pods: Pod[];
before(async () => {
  network = await TestNetwork.create(2);
  daemons = await network.startAll(...FLAGS);
  pods = [];
  for (const daemon of daemons) pods.push(await Pod.create(daemon));
});
after(async () => {
  for (const pod of pods) await pod.close();
  await network.close();
});

function endpoint(host: Host, ...args: readonly string[]): ChildProcess {
  return host.spawn(process.execPath, [ENDPOINT, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
}

/** Starts both daemons anew with one manager. */
async function restart(manager: Variant | 'nftables'): Promise<void> {
  await network.stopAll();
  const config = { ...CONFIG, EnableNFTables: manager === 'nftables' };
  await writeFile(join(network.store, 'config'), JSON.stringify(config));
  const wrapper = manager === 'nftables' ? [] : await withVariant(network.folder, manager);
  daemons = [1, 2].map((number) => network.startBehind(wrapper, number, ...FLAGS));
  await Promise.all(daemons.map((daemon) => daemon.ready(1)));
}

function pod(number: number): Pod {
  const found = pods[number - 1];
  if (found === undefined) throw new Error(`there is no pod ${number}`);
  return found;
}

/** Where a server in the second pod sees a connection come from. */
async function sourceSeenByPod(from: Host, localAddress: string): Promise<string> {
  const server = endpoint(pod(2), 'serve', pod(2).address, '7000');
  let output = '';
  server.stdout?.setEncoding('utf8').on('data', (text: string) => (output += text));
  try {
    await eventually(() => output.startsWith('ready\n'));
    await from.exec(process.execPath, ENDPOINT, 'connect', localAddress, pod(2).address, '7000');
    return await eventually(() => /^ready\n(\S+)\n/.exec(output)?.[1] ?? false).then(String);
  } finally {
    server.kill();
    await once(server, 'close');
  }
}

/** Where a server outside of the overlay sees a connection come from. */
async function sourceSeenOutside(from: Host): Promise<string | undefined> {
  let source: string | undefined;
  const server = createServer((socket) => {
    source = socket.remoteAddress;
    socket.on('error', () => undefined).end();
  });
  server.listen(0, GATEWAY);
  await once(server, 'listening');
  try {
    const { port } = server.address() as AddressInfo;
    await from.exec(process.execPath, ENDPOINT, 'connect', '-', GATEWAY, String(port));
    return source;
  } finally {
    server.close();
  }
}

/** Where a packet to an address or a multicast group outside seems to come from. */
async function sourceOfPacket(from: Host, source: string, target: string): Promise<string> {
  const socket = createSocket('udp4');
  socket.bind(0, target === GROUP ? undefined : target);
  await once(socket, 'listening');
  if (target === GROUP) socket.addMembership(GROUP, GATEWAY);
  const received = once(socket, 'message', { signal: AbortSignal.timeout(30_000) }) as Promise<
    [Buffer, { address: string }]
  >;
  received.catch(() => undefined); // Whoever awaits it is told.
  try {
    await from.exec(process.execPath, ENDPOINT, 'send', source, target, String(socket.address().port));
    return (await received)[1].address;
  } finally {
    socket.close();
  }
}

for (const manager of ['legacy', 'nft', 'nftables'] as const) {
  describe(`by ${manager}`, () => {
    before(() => restart(manager));

    test('from a pod to the outside is masqueraded', async () => {
      assert.equal(await sourceSeenOutside(pod(1)), '192.168.77.1');
    });

    test('from pod to pod is not', async () => {
      assert.equal(await sourceSeenByPod(pod(1), '-'), pod(1).address);
    });

    test('from the host to the overlay is', async () => {
      const source = await sourceSeenByPod(network.host(1), '192.168.77.1');
      assert.equal(source, daemons[0]?.overlayAddress);
    });

    test('from the overlay to a multicast group is not', async () => {
      const address = daemons[0]?.overlayAddress ?? '';
      assert.equal(await sourceOfPacket(network.host(1), address, GATEWAY), '192.168.77.1');
      assert.equal(await sourceOfPacket(network.host(1), address, GROUP), address);
    });

    test('with the mark of Kubernetes is left to Kubernetes', async () => {
      const host = network.host(1);
      const rule = ['-t', 'mangle', '-A', 'PREROUTING', '-i', 'cni0', '-j', 'MARK', '--set-mark', '0xc000'];
      await host.exec('iptables-nft', '-w', ...rule);
      try {
        await assert.rejects(sourceSeenOutside(pod(1)), /no answer/);
      } finally {
        await host.exec('iptables-nft', '-w', '-t', 'mangle', '-F');
      }
    });
  });
}

test('a NATed stream and a ping lose nothing while rules are replaced, repaired and switched', async (t) => {
  await restart('legacy');
  const stream = await Stream.outside();
  const ping = new Ping(pod(1), GATEWAY);
  t.after(() => {
    stream.close();
  });
  for (const manager of ['legacy', 'nft', 'nftables', 'nft'] as const) {
    await restart(manager);
    await showsRules(manager);
    await damage(manager);
    await eventually(() => showsRules(manager), 20_000);
    await stream.goesOn();
  }
  await ping.end();
});

async function showsRules(manager: Variant | 'nftables'): Promise<void> {
  const host = network.host(1);
  const subnet = daemons[0]?.overlaySubnet ?? '';
  if (manager === 'nftables') {
    assert.equal(await nftTable(host, 'ip flannel-ipv4'), expectedNft(4, '10.244.0.0/16', subnet));
  } else {
    assert.deepEqual(await iptablesRules(host, manager), expectedIptables('10.244.0.0/16', subnet));
  }
}

/** Takes away rules, but none that the traffic needs. */
async function damage(manager: Variant | 'nftables'): Promise<void> {
  const host = network.host(1);
  if (manager === 'nftables') await host.exec('nft', 'flush', 'chain', 'ip', 'flannel-ipv4', 'forward');
  else await host.exec(`iptables-${manager}`, '-w', '-t', 'nat', '-D', 'FLANNEL-POSTRTG', '1');
}

/** Numbered words from the first pod to a server outside of the overlay. */
class Stream {
  private expected = 0;
  private wrong = 0;
  private rest = Buffer.alloc(0);
  private client: ChildProcess | null = null;
  private readonly sockets: Socket[] = [];
  private readonly server = createServer((socket) => {
    this.sockets.push(socket);
    socket.on('error', () => undefined);
    socket.on('data', (data) => {
      this.receive(data);
    });
  });

  static async outside(): Promise<Stream> {
    const stream = new Stream();
    stream.server.listen(0, GATEWAY);
    await once(stream.server, 'listening');
    const { port } = stream.server.address() as AddressInfo;
    stream.client = endpoint(pod(1), 'stream', GATEWAY, String(port));
    await stream.goesOn();
    return stream;
  }

  /** Something new arrives, and so far everything has, in order. */
  async goesOn(): Promise<void> {
    const before = this.expected;
    await eventually(() => this.expected > before);
    assert.deepEqual([this.client?.exitCode, this.sockets.length, this.wrong], [null, 1, 0]);
  }

  close(): void {
    this.client?.kill();
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
  }

  private receive(data: Buffer): void {
    this.rest = Buffer.concat([this.rest, data]);
    let at = 0;
    for (; at + 4 <= this.rest.length; at += 4) {
      if (this.rest.readUInt32BE(at) !== this.expected++) this.wrong++;
    }
    this.rest = this.rest.subarray(at);
  }
}
