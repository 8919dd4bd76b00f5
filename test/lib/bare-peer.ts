/**
 * A peer without a flanneld: `node bare-peer.js FILE` binds port 8285, sends the datagrams of the script in the file
 * and prints what came back. Both are JSON, bytes in hexadecimal. One that answers says "ready" first.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { echoReply } from './raw-packets.js';

export interface PeerScript {
  readonly to: string;
  readonly send: readonly string[];
  /** How many datagrams to wait for; 0: ends once all are sent. */
  readonly expect: number;
  /** Whether it answers echo requests of IPv4, until its input is closed. `expect` means nothing then. */
  readonly answers?: boolean;
}

export interface PeerReport {
  readonly received: { readonly from: string; readonly bytes: string }[];
}

const PORT = 8285;
const WAIT_MS = 30_000;

const script = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as PeerScript;
const report: PeerReport = { received: [] };
const socket = createSocket('udp4');
socket.bind(PORT);
await once(socket, 'listening');
const answers = script.answers === true;
const late = setTimeout(() => socket.close(), WAIT_MS);
socket.on('message', (bytes, { address, port }) => {
  report.received.push({ from: `${address}:${port}`, bytes: bytes.toString('hex') });
  const reply = answers ? echoReply(bytes) : null;
  if (reply !== null) socket.send(reply, port, address);
  if (!answers && report.received.length === script.expect) socket.close();
});
const closed = once(socket, 'close');
for (const bytes of script.send) {
  await new Promise((sent) => {
    socket.send(Buffer.from(bytes, 'hex'), PORT, script.to, sent);
  });
}
if (answers) {
  console.log('ready');
  process.stdin.resume().once('end', () => socket.close());
} else if (script.expect === 0) {
  socket.close();
}
await closed;
clearTimeout(late);
process.stdout.write(JSON.stringify(report));
