import assert from 'node:assert/strict';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { HttpServer } from '../../src/http/server.js';
import { eventually } from '../lib/eventually.js';
import { captureLog } from '../lib/store.js';

const servers: HttpServer[] = [];
const sockets: Socket[] = [];
let log: string[];

beforeEach(() => {
  log = captureLog();
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

function make(port = 0, ip = '127.0.0.1', retryMs?: number): HttpServer {
  const server = new HttpServer({ ip, port }, (_, response) => void response.end('well'), retryMs);
  servers.push(server);
  return server;
}

async function listening(port = 0, ip = '127.0.0.1'): Promise<HttpServer> {
  const server = make(port, ip);
  await server.listen(() => false);
  return server;
}

async function ask(url: string): Promise<string> {
  return (await fetch(url, { signal: AbortSignal.timeout(30_000) })).text();
}

async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  sockets.push(socket);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

describe('the HTTP server', () => {
  test('listens on IPv6 as well', async () => {
    const server = await listening(0, '::1');
    assert.equal(await ask(`http://[::1]:${server.port}/`), 'well');
  });

  test('makes room for those who ask by dropping the oldest of too many', async () => {
    const { port } = await listening();
    for (let i = 0; i < 100; i++) (await open(port)).write('GET / HTTP/1.1\r\nHost:');
    assert.equal(await ask(`http://127.0.0.1:${port}/`), 'well');
    await eventually(() => {
      assert.ok(sockets.filter(({ destroyed }) => destroyed).length >= 36);
    });
  });

  test('ends within 3 s whatever a client does', async () => {
    const server = await listening();
    (await open(server.port)).write('GET / HTTP/1.1\r\nHost: x\r\n');
    (await open(server.port)).write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n');
    const started = performance.now();
    await server.close();
    assert.ok(performance.now() - started < 6_000);
  });

  test('does not survive what cannot be parsed', async () => {
    const { port } = await listening();
    const socket = await open(port);
    socket.write('\0\xff nonsense\r\n\r\n');
    const [answer] = (await once(socket, 'data')) as [Buffer];
    assert.match(answer.toString(), /^HTTP\/1\.1 400/);
    assert.equal(await ask(`http://127.0.0.1:${port}/`), 'well');
  });

  test('names the remedy where the port is taken', async () => {
    const { port } = await listening();
    await assert.rejects(
      listening(port),
      /cannot listen on 127\.0\.0\.1:\d+ for health checks: it is taken: end what/,
    );
    await assert.rejects(listening(0, 'no.such.host.invalid'), /set --healthz-ip to an address of this host/);
  });

  test('waits for a predecessor to leave the port', async () => {
    const predecessor = createServer();
    predecessor.listen(0, '127.0.0.1');
    await once(predecessor, 'listening');
    const { port } = predecessor.address() as AddressInfo;
    const server = make(port);
    await server.listen(() => true);
    await eventually(() => {
      assert.match(log.join(''), /is taken, as by the flanneld that runs already/);
    });
    predecessor.close();
    await eventually(async () => {
      assert.equal(await ask(`http://127.0.0.1:${port}/`), 'well');
    });
  });

  test('keeps nothing of the times it has tried in vain', async () => {
    const predecessor = createServer();
    predecessor.listen(0, '127.0.0.1');
    await once(predecessor, 'listening');
    const { port } = predecessor.address() as AddressInfo;
    const warnings: Error[] = [];
    const warn = (warning: Error) => void warnings.push(warning);
    process.on('warning', warn);
    try {
      const server = make(port, '127.0.0.1', 5);
      await server.listen(() => true);
      await delay(500);
      predecessor.close();
      await eventually(async () => {
        assert.equal(await ask(`http://127.0.0.1:${port}/`), 'well');
      });
      assert.deepEqual(warnings, []);
    } finally {
      process.off('warning', warn);
      predecessor.close();
    }
  });

  test('can be ended while it waits', async () => {
    const { port } = await listening();
    const server = make(port);
    await server.listen(() => true);
    await server.close();
    await delay(500);
    assert.equal(server.port, 0);
  });
});
