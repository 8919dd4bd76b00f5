/**
 * An underlay that loses, doubles and reorders: `node bad-relay.js SEED FAMILY` stands for two hosts at once. What comes
 * to one of its ports goes on to the host whose port that is, by IPv4 or IPv6. Says "ready"; once its input is closed,
 * prints what it did.
 */
import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';
import { once } from 'node:events';
import { Dice } from './dice.js';

/** Where each host listens, and the port that stands for it here. */
interface Relayed {
  readonly address: string;
  readonly port: number;
}

export interface RelayFigures {
  /** Sent on, doubled ones twice. */
  readonly passed: number;
  readonly lost: number;
  readonly doubled: number;
  readonly delayed: number;
}

const LOSS = 0.005;
const DOUBLED = 0.01;
const DELAYED = 0.02;
/** Long enough for others to overtake. */
const DELAY_MS = 3;
const BUFFER = 8 << 20;

const [seed = '', family = ''] = process.argv.slice(2);
const network = family === '6' ? 'fd77::' : '192.168.77.';
const relayed: readonly Relayed[] = [1, 2].map((host) => ({
  address: `${network}${host}`,
  port: 9000 + host,
}));
const figures = { passed: 0, lost: 0, doubled: 0, delayed: 0 };
const dice = new Dice(seed);

function relay(socket: Socket, bytes: Buffer, to: Relayed): void {
  const send = () => {
    socket.send(bytes, to.port, to.address);
    figures.passed++;
  };
  if (dice.chance(LOSS)) {
    figures.lost++;
  } else if (dice.chance(DOUBLED)) {
    figures.doubled++;
    send();
    send();
  } else if (dice.chance(DELAYED)) {
    figures.delayed++;
    setTimeout(send, DELAY_MS);
  } else {
    send();
  }
}

const sockets = await Promise.all(
  relayed.map(async (to) => {
    const socket = createSocket({ type: family === '6' ? 'udp6' : 'udp4', recvBufferSize: BUFFER });
    socket.on('message', (bytes) => {
      relay(socket, bytes, to);
    });
    socket.bind(to.port);
    await once(socket, 'listening');
    return socket;
  }),
);
console.log('ready');
process.stdin.resume();
await once(process.stdin, 'end');
for (const socket of sockets) socket.close();
console.log(JSON.stringify(figures));
