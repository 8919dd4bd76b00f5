/**
 * `node flood.js`: keeps sending until it is ended, into the overlay (a TUN device takes it while there is one) and
 * to the port of the dataplane on this host.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

const socket = createSocket('udp4');
socket.bind(0);
await once(socket, 'listening');
// While there is no device the sends fail: that is part of the game.
socket.on('error', () => undefined);
const packet = Buffer.alloc(200, 0x45);
const ignore = () => undefined;
setInterval(() => {
  for (let i = 0; i < 20; i++) {
    socket.send(packet, 9, '10.244.200.1', ignore);
    socket.send(packet, 8285, '192.168.77.1', ignore);
  }
}, 1);
