/** IPv4 packets byte by byte. */

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
