/** A way to a server that can be broken in each of the ways in which networks are. */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';

/**
 * Below the ports that the kernel gives to outgoing connections (net.ipv4.ip_local_port_range): those of this machine,
 * the attempts to reach the port itself among them, could take it while its server is down.
 */
const [FIRST_PORT, LAST_PORT] = [12_000, 31_999];
const given = new Set<number>();

/** A port of 127.0.0.1 that nobody listened on a moment ago, and that this process has given to nobody. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(FIRST_PORT, LAST_PORT + 1);
    if (given.has(port)) continue;
    const server = createServer().listen(port);
    try {
      await once(server, 'listening');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') continue;
      throw error;
    }
    given.add(port);
    server.close();
    await once(server, 'close');
    return port;
  }
}

/** Bytes on their way to the server (`up`) or to the client (`down`). */
export type Way = 'up' | 'down';

const WAYS: readonly Way[] = ['up', 'down'];
const NOT_LIMITED = Number.POSITIVE_INFINITY;
/** So many bytes may wait in a pipe before its sender has to wait as well. */
const BACKLOG = 256 << 10;

/** What one way is like at present, for all connections. */
interface Conditions {
  /** Connections of now and those to come lose every byte, for ever. */
  swallowing: boolean;
  /** Bytes wait until this is over, as behind a link that is down for less than TCP's patience. */
  holding: boolean;
  delayMs: number;
  bytesPerSecond: number;
  /** What is longer than so many bytes is cut short there, and the connection is reset. */
  resetAfter: number;
}

function fairWeather(): Conditions {
  return {
    swallowing: false,
    holding: false,
    delayMs: 0,
    bytesPerSecond: NOT_LIMITED,
    resetAfter: NOT_LIMITED,
  };
}

/** Passes connections on to another port, as long as and as well as it is asked to. */
export class TcpProxy {
  private server: Server | null = null;
  private readonly connections = new Set<Connection>();
  private readonly conditions = { up: fairWeather(), down: fairWeather() };
  private fatalText: string | null = null;
  /** Connections accepted so far. */
  accepted = 0;

  private constructor(
    readonly port: number,
    private readonly targetPort: number,
    private readonly targetAddress: string,
    /** Where it listens. */
    readonly address: string,
  ) {}

  static async to(targetPort: number, targetAddress = '127.0.0.1', address = '127.0.0.1'): Promise<TcpProxy> {
    const proxy = new TcpProxy(await freePort(), targetPort, targetAddress, address);
    await proxy.open();
    return proxy;
  }

  get endpoint(): string {
    return `http://${this.address}:${this.port}`;
  }

  /** Fair weather (again): accepts connections and passes on all they say. A connection that lost bytes stays dead. */
  async open(): Promise<void> {
    for (const way of WAYS) Object.assign(this.conditions[way], fairWeather());
    this.fatalText = null;
    for (const connection of this.connections) connection.clearUp();
    if (this.server !== null) return;
    this.server = createServer((socket) => {
      this.accept(socket);
    });
    this.server.listen(this.port, this.address);
    await once(this.server, 'listening');
  }

  /** Resets all connections and refuses new ones. */
  async cut(): Promise<void> {
    const { server } = this;
    this.server = null;
    this.reset();
    if (server === null) return;
    server.close();
    await once(server, 'close');
  }

  /** Resets all connections; new ones are welcome. */
  reset(): void {
    for (const connection of this.connections) connection.reset();
  }

  /** Half-open: connections stay, new ones are accepted, and not a byte gets through on these ways. */
  swallow(...ways: readonly Way[]): void {
    for (const way of ways.length > 0 ? ways : WAYS) {
      this.conditions[way].swallowing = true;
      for (const connection of this.connections) connection.kill(way);
    }
  }

  /** Nothing gets through on these ways for now; later everything does. */
  hold(...ways: readonly Way[]): void {
    for (const way of ways) this.conditions[way].holding = true;
  }

  /** @param bytesPerSecond of each connection */
  slow(way: Way, { delayMs = 0, bytesPerSecond = NOT_LIMITED }): void {
    Object.assign(this.conditions[way], { delayMs, bytesPerSecond });
  }

  /** Resets each connection in the middle of the next thing the server says that is longer than so many bytes. */
  resetInAnswer(bytes: number): void {
    this.conditions.down.resetAfter = bytes;
  }

  /** Lets the first request that contains `text` through and swallows everything after it. */
  swallowAnswerTo(text: string): void {
    this.fatalText = text;
  }

  async close(): Promise<void> {
    await this.cut();
  }

  private accept(near: Socket): void {
    this.accepted++;
    const far = connect(this.targetPort, this.targetAddress);
    const connection: Connection = new Connection(near, far, this.conditions, () => {
      this.connections.delete(connection);
    });
    this.connections.add(connection);
    near.on('data', (chunk: Buffer) => {
      if (this.fatalText === null || !chunk.includes(this.fatalText)) return;
      this.fatalText = null;
      // The pipe, which listens since before this, has the chunk already.
      this.swallow();
    });
  }
}

/** A client's connection and the one to the server that goes with it. */
class Connection {
  private readonly pipes: Readonly<Record<Way, Pipe>>;

  constructor(
    private readonly near: Socket,
    private readonly far: Socket,
    conditions: Readonly<Record<Way, Conditions>>,
    private readonly closed: () => void,
  ) {
    const reset = () => {
      this.reset();
    };
    this.pipes = {
      up: new Pipe(near, far, conditions.up, reset),
      down: new Pipe(far, near, conditions.down, reset),
    };
    near.on('error', () => undefined);
    far.on('error', () => undefined);
    near.on('close', () => {
      far.destroy();
      this.closed();
    });
    // Where its words get lost, the server's end does as well.
    far.on('close', (failed) => {
      if (failed && !this.pipes.down.dead) near.resetAndDestroy();
    });
  }

  reset(): void {
    this.near.resetAndDestroy();
    this.far.resetAndDestroy();
  }

  kill(way: Way): void {
    this.pipes[way].dead = true;
  }

  clearUp(): void {
    for (const way of WAYS) this.pipes[way].clearUp();
  }
}

/** One way of a connection. */
class Pipe {
  /** It has lost bytes, and loses what else comes. */
  dead: boolean;
  /** Null is the end. */
  private readonly queue: { readonly chunk: Buffer | null; due: number }[] = [];
  private waiting = 0;
  /** When the bytes so far have gone through at the allowed pace. */
  private paced = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly from: Socket,
    private readonly to: Socket,
    private readonly conditions: Conditions,
    private readonly reset: () => void,
  ) {
    this.dead = conditions.swallowing;
    from.on('data', (chunk: Buffer) => {
      this.take(chunk);
    });
    from.on('end', () => {
      this.take(null);
    });
    to.on('drain', () => {
      this.hurry();
    });
    to.on('close', () => {
      clearTimeout(this.timer);
      this.queue.length = 0;
    });
  }

  /** What has waited goes on at once: a link that is fast again does not remember how slow it was. */
  clearUp(): void {
    this.paced = 0;
    for (const part of this.queue) part.due = 0;
    this.pump();
  }

  /** Passes on what is due. */
  pump(): void {
    clearTimeout(this.timer);
    for (let head = this.queue[0]; head !== undefined && !this.conditions.holding; head = this.queue[0]) {
      const wait = head.due - performance.now();
      if (wait > 0) {
        this.timer = setTimeout(() => {
          this.pump();
        }, wait);
        break;
      }
      this.queue.shift();
      this.waiting -= head.chunk?.length ?? 0;
      this.pass(head.chunk);
    }
    this.hurry();
  }

  private take(chunk: Buffer | null): void {
    if (this.dead) return;
    const { delayMs, bytesPerSecond } = this.conditions;
    const bytes = chunk?.length ?? 0;
    this.paced = Math.max(this.paced, performance.now()) + (bytes * 1000) / bytesPerSecond;
    this.queue.push({ chunk, due: this.paced + delayMs });
    this.waiting += bytes;
    this.pump();
  }

  private pass(chunk: Buffer | null): void {
    // It may have died while this waited.
    if (this.dead || !this.to.writable) return;
    if (chunk === null) {
      this.to.end();
    } else if (chunk.length > this.conditions.resetAfter) {
      this.to.write(chunk.subarray(0, this.conditions.resetAfter), this.reset);
      this.dead = true;
    } else {
      this.to.write(chunk);
    }
  }

  private hurry(): void {
    if (this.waiting > BACKLOG || this.to.writableNeedDrain) this.from.pause();
    else this.from.resume();
  }
}
