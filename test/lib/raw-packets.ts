/** Packets byte by byte. */
import { ip6ToBytes } from '../../src/ip6.js';

/** An IPv4 header with a right checksum, and a payload behind it. */
function packet(source: string, destination: string, ttl: number, protocol: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header.writeUInt16BE(20 + payload.length, 2);
  header[8] = ttl;
  header[9] = protocol;
  for (const [at, address] of [
    [12, source],
    [16, destination],
  ] as const) {
    header.set(address.split('.').map(Number), at);
  }
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, payload]);
}

/** RFC 1071; 0 for bytes that hold their checksum. */
export function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** An ICMP echo request. */
export function echo(source: string, destination: string, ttl = 64): Buffer {
  const message = Buffer.from([8, 0, 0, 0, 0, 1, 0, 1, ...Buffer.from('payload!')]);
  message.writeUInt16BE(checksum(message), 2);
  return packet(source, destination, ttl, 1, message);
}

/** The answer to an ICMP echo request; null for any other packet. */
export function echoReply(request: Buffer): Buffer | null {
  if (request.length < 28 || request[0] !== 0x45 || request[9] !== 1 || request[20] !== 8) return null;
  const text = (at: number) => request.subarray(at, at + 4).join('.');
  const message = Buffer.from(request.subarray(20));
  message[0] = 0;
  message.writeUInt16BE(0, 2);
  message.writeUInt16BE(checksum(message), 2);
  return packet(text(16), text(12), 64, 1, message);
}

/** An ICMPv6 echo request (RFC 4443, section 4.1). */
export function echo6(source: string, destination: string, hopLimit = 64): Buffer {
  const message = Buffer.from([128, 0, 0, 0, 0, 1, 0, 1, ...Buffer.from('payload!')]);
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header.writeUInt16BE(message.length, 4);
  header[6] = 58;
  header[7] = hopLimit;
  header.set(ip6ToBytes(source), 8);
  header.set(ip6ToBytes(destination), 24);
  const pseudo = Buffer.concat([header.subarray(8, 40), Buffer.from([0, 0, 0, message.length, 0, 0, 0, 58])]);
  message.writeUInt16BE(checksum(Buffer.concat([pseudo, message])), 2);
  return Buffer.concat([header, message]);
}
