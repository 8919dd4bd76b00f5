/**
 * One TCP stream between two hosts, checked byte for byte:
 *
 *   node tcp.js sink ADDRESS                     prints the port it listens on, takes one stream, prints its figures
 *   node tcp.js source ADDRESS PORT --seconds S  sends for S seconds (or --bytes N), prints its figures
 *
 * Figures are a JSON object: bytes, seconds, sha256 of the payload.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

const CHUNK = 256 << 10;
const STALLED_MS = 10_000;

/** What an end of a stream saw. */
export interface StreamFigures {
  readonly bytes: number;
  readonly seconds: number;
  readonly sha256: string;
}

async function sink(address: string): Promise<StreamFigures> {
  const server = createServer();
  server.listen(0, address);
  await once(server, 'listening');
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
  const [socket] = (await once(server, 'connection')) as [Socket];
  server.close();
  const hash = createHash('sha256');
  let bytes = 0;
  const start = performance.now();
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { bytes, seconds: (performance.now() - start) / 1000, sha256: hash.digest('hex') };
}

async function source(address: string, port: number, limit: string, amount: number): Promise<StreamFigures> {
  const socket = connect(port, address);
  socket.setTimeout(STALLED_MS, () => socket.destroy(new Error(`no progress in ${STALLED_MS / 1000} s`)));
  await once(socket, 'connect');
  const hash = createHash('sha256');
  const chunk = Buffer.alloc(CHUNK);
  let bytes = 0;
  const start = performance.now();
  const elapsed = () => (performance.now() - start) / 1000;
  const goOn = limit === '--bytes' ? () => bytes < amount : () => elapsed() < amount;
  for (let i = 0; goOn(); i++) {
    // Every word of the stream differs, so that a segment in the wrong place shows in the hash.
    for (let at = 0; at < CHUNK; at += 64) chunk.writeUInt32LE((i * CHUNK + at) >>> 0, at);
    const part = limit === '--bytes' ? chunk.subarray(0, amount - bytes) : chunk;
    hash.update(part);
    bytes += part.length;
    // A copy, since the chunk is filled anew while this one waits in the socket.
    if (!socket.write(Buffer.from(part))) await once(socket, 'drain');
  }
  socket.end();
  await once(socket, 'close');
  return { bytes, seconds: elapsed(), sha256: hash.digest('hex') };
}

const [role = '', address = '', port = '0', limit = '--seconds', amount = '1'] = process.argv.slice(2);
const figures =
  role === 'sink' ? await sink(address) : await source(address, Number(port), limit, Number(amount));
process.stdout.write(`${JSON.stringify(figures)}\n`);
