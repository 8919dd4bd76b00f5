import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';

/** A port of 127.0.0.1 that nobody listened on a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Passes connections to a port of 127.0.0.1 on, as long as it is asked to. */
export class TcpProxy {
  private server: Server | null = null;
  private readonly sockets = new Set<Socket>();
  private swallowing = false;
  private fatalText: string | null = null;
  /** Connections accepted so far. */
  accepted = 0;

  private constructor(
    readonly port: number,
    private readonly targetPort: number,
    private readonly targetAddress: string,
  ) {}

  static async to(targetPort: number, targetAddress = '127.0.0.1'): Promise<TcpProxy> {
    const proxy = new TcpProxy(await freePort(), targetPort, targetAddress);
    await proxy.open();
    return proxy;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Accepts connections (again). */
  async open(): Promise<void> {
    this.swallowing = false;
    if (this.server !== null) return;
    this.server = createServer((socket) => {
      this.accept(socket);
    });
    this.server.listen(this.port, '127.0.0.1');
    await once(this.server, 'listening');
  }

  /** Resets all connections and refuses new ones. */
  async cut(): Promise<void> {
    const { server } = this;
    this.server = null;
    for (const socket of this.sockets) socket.resetAndDestroy();
    if (server === null) return;
    server.close();
    await once(server, 'close');
  }

  /** Half-open: connections stay, new ones are accepted, and not a byte gets through. */
  swallow(): void {
    this.swallowing = true;
    for (const socket of this.sockets) this.mute(socket);
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
    this.track(near);
    if (this.swallowing) {
      this.mute(near);
      return;
    }
    const far = connect(this.targetPort, this.targetAddress);
    this.track(far);
    near.on('data', (chunk: Buffer) => {
      if (this.fatalText === null || !chunk.includes(this.fatalText)) return;
      this.fatalText = null;
      far.write(chunk);
      this.swallow();
    });
    near.pipe(far);
    far.pipe(near);
    near.on('close', () => far.destroy());
    far.on('close', () => near.destroy());
  }

  private mute(socket: Socket): void {
    socket.unpipe();
    socket.removeAllListeners('data');
    socket.on('data', () => undefined);
  }

  private track(socket: Socket): void {
    this.sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => this.sockets.delete(socket));
  }
}
