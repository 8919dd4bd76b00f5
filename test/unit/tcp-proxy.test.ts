import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { eventually } from '../lib/eventually.js';
import { TcpProxy } from '../lib/tcp-proxy.js';

/** Answers `PING` with `ping`, and so on. */
let server: Server;
let heard: string;
let proxy: TcpProxy;
const clients: Client[] = [];

/** A client that keeps what it was told. */
class Client {
  told = '';
  closed = false;

  private constructor(readonly socket: Socket) {
    socket.setEncoding('utf8').on('data', (text: string) => (this.told += text));
    socket.on('error', () => undefined);
    socket.on('close', () => (this.closed = true));
    clients.push(this);
  }

  static async connected(): Promise<Client> {
    const client = new Client(connect(proxy.port, '127.0.0.1'));
    await once(client.socket, 'connect');
    return client;
  }

  /** Resolves once the answer is there. */
  async ask(text: string): Promise<void> {
    const all = this.told + text.toLowerCase();
    this.socket.write(text);
    await eventually(() => this.told === all, 2_000);
  }
}

beforeEach(async () => {
  heard = '';
  server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.setEncoding('utf8').on('data', (text: string) => {
      heard += text;
      socket.write(text.toLowerCase());
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  proxy = await TcpProxy.to((server.address() as AddressInfo).port);
});
afterEach(async () => {
  for (const { socket } of clients.splice(0)) socket.destroy();
  await proxy.close();
  server.close();
});

describe('the proxy', () => {
  it('passes on in fair weather, and the end of a connection as well', async () => {
    const client = await Client.connected();
    await client.ask('ONE');
    await client.ask('TWO');
    client.socket.end();
    await once(client.socket, 'close');
    assert.equal(heard, 'ONETWO');
  });

  it('refuses connections while it is cut, and ends those there were', async () => {
    const client = await Client.connected();
    await client.ask('ONE');
    await proxy.cut();
    await eventually(() => client.closed);
    await assert.rejects(Client.connected());
    await proxy.open();
    await (await Client.connected()).ask('TWO');
  });

  it('swallows one way only, for ever', async () => {
    const client = await Client.connected();
    await client.ask('ONE');
    proxy.swallow('down');
    client.socket.write('TWO');
    await eventually(() => heard === 'ONETWO');
    await proxy.open();
    client.socket.write('THREE');
    await eventually(() => heard === 'ONETWOTHREE');
    assert.equal(client.told, 'one');
    assert.ok(!client.closed);
    await (await Client.connected()).ask('FOUR');
  });

  it('holds back, and lets go of everything in its order', async () => {
    const client = await Client.connected();
    await client.ask('ONE');
    proxy.hold('up');
    const late = await Client.connected();
    for (const text of ['TWO', 'THREE']) client.socket.write(text);
    late.socket.write('FOUR');
    await proxy.open();
    await eventually(() => client.told === 'onetwothree' && late.told === 'four');
  });

  it('takes the time it is told to, each way', async () => {
    const client = await Client.connected();
    await client.ask('ONE');
    proxy.slow('up', { delayMs: 100 });
    proxy.slow('down', { bytesPerSecond: 100 });
    const started = performance.now();
    await client.ask('TEN CHARS.');
    assert.ok(performance.now() - started > 195);
    await proxy.open();
    await client.ask('TWO');
  });

  it('ends in the middle of an answer', async () => {
    const client = await Client.connected();
    proxy.resetInAnswer(4);
    await client.ask('FOUR');
    client.socket.write('LONGER');
    await eventually(() => client.closed);
    assert.ok('fourlong'.startsWith(client.told));
    assert.ok(heard.endsWith('LONGER'));
  });
});
