/**
 * One end of a connection, as a program of its own inside a host:
 *
 *   endpoint.js serve ADDRESS PORT            says, in one line, from where each TCP connection or UDP packet comes
 *   endpoint.js connect FROM TO PORT          connects, "-" for any address of its own, and ends
 *   endpoint.js send FROM GROUP PORT          sends one UDP packet to an address or a multicast group
 *   endpoint.js stream TO PORT                writes numbered words for ever; ends with status 1 when it cannot
 */
import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';

const [command, ...args] = process.argv.slice(2);
const [a = '', b = '', c = ''] = args;

function fail(error: Error): never {
  console.error(error.message);
  process.exit(1);
}

switch (command) {
  case 'serve': {
    const server = createServer((socket) => {
      console.log(socket.remoteAddress);
      socket.on('error', () => undefined).end();
    });
    server.listen(Number(b), a, () => {
      console.log('ready');
    });
    break;
  }
  case 'connect': {
    const socket = connect({
      host: b,
      port: Number(c),
      ...(a !== '-' && { localAddress: a }),
      timeout: 5000,
    });
    socket
      .on('error', fail)
      .on('timeout', () => fail(new Error('no answer')))
      .on('close', () => process.exit(0));
    socket.resume();
    break;
  }
  case 'send': {
    const socket = createSocket('udp4').on('error', fail);
    socket.bind(0, a, () => {
      if (b.startsWith('239.')) socket.setMulticastInterface('192.168.77.1');
      socket.send('hello', Number(c), b, () => {
        socket.close();
      });
    });
    break;
  }
  case 'stream': {
    const socket = connect(Number(b), a)
      .on('error', fail)
      .on('close', () => fail(new Error('closed')));
    let number = 0;
    setInterval(() => {
      if (socket.writableNeedDrain) return;
      const block = Buffer.alloc(4096);
      for (let at = 0; at < block.length; at += 4) block.writeUInt32BE(number++ >>> 0, at);
      socket.write(block);
    }, 5);
    break;
  }
  case undefined:
  default:
    fail(new Error(`unknown command ${String(command)}`));
}
