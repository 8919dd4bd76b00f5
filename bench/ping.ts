/**
 * ICMP echo to one address: `node ping.js ADDRESS COUNT`. Prints the round-trip times in milliseconds as a JSON
 * array, null for an echo that was not answered in time. Needs CAP_NET_RAW.
 */
import type { Socket } from 'raw-socket';

const ECHO_REPLY = 0;
const ECHO = 8;
const TIMEOUT_MS = 1000;
const IP_HEADER = 20;

async function main([address = '', count = '5']: readonly string[]): Promise<void> {
  // An optional dependency: it is compiled on installation, which may have failed.
  const { default: raw } = await import('raw-socket');
  const socket = raw.createSocket({ protocol: raw.Protocol.ICMP });
  const id = process.pid & 0xffff;
  const times: (number | null)[] = [];
  for (let sequence = 1; sequence <= Number(count); sequence++) {
    const request = Buffer.alloc(64);
    request.writeUInt8(ECHO, 0);
    request.writeUInt16BE(id, 4);
    request.writeUInt16BE(sequence, 6);
    raw.writeChecksum(request, 2, raw.createChecksum(request));
    times.push(await roundTrip(socket, request, address));
  }
  socket.close();
  process.stdout.write(`${JSON.stringify(times)}\n`);
}

/** Milliseconds until the reply to `request` arrived, or null. */
function roundTrip(socket: Socket, request: Buffer, address: string): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const timer = setTimeout(() => {
      resolve(null);
    }, TIMEOUT_MS);
    socket.on('error', reject);
    socket.on('message', (packet, source) => {
      const reply = packet.subarray(IP_HEADER);
      // The kernel delivers every ICMP message of the host; id and sequence tell ours apart.
      if (source !== address || reply[0] !== ECHO_REPLY) return;
      if (!reply.subarray(4, 8).equals(request.subarray(4, 8))) return;
      clearTimeout(timer);
      resolve(performance.now() - start);
    });
    socket.send(request, 0, request.length, address, (error) => {
      if (error !== null) reject(error);
    });
  });
}

await main(process.argv.slice(2));
