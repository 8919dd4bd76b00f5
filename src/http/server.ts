/** The HTTP endpoint for health and metrics. It serves anyone who can reach it, and lets nobody hold it up. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { isIPv6 } from 'node:net';
import { FlannelError, codeOf, messageOf } from '../errors.js';
import { log } from '../log.js';
import { sleep } from '../retry.js';

/** How long a client may take to send its request, and how long it may be silent while it reads the answer. */
const CLIENT_MS = 5_000;
/** The oldest connection makes room for one beyond these. */
const MOST_CONNECTIONS = 64;
/** Answers under way at the end may take this long. */
const SHUTDOWN_MS = 3_000;
/** A predecessor that hands over has the port until it ends. */
const RETRY_MS = 200;
const PATIENCE_MS = 30_000;

/** Answers a request; a rejection becomes a 500. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void> | void;

export interface ListenAddress {
  /** IPv4 or IPv6 address, or a name. Empty for all addresses. */
  readonly ip: string;
  readonly port: number;
}

export class HttpServer {
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private readonly ended = new AbortController();

  constructor(
    private readonly address: ListenAddress,
    handler: Handler,
    private readonly retryMs = RETRY_MS,
  ) {
    this.server = createServer(
      { requestTimeout: CLIENT_MS, headersTimeout: CLIENT_MS, connectionsCheckingInterval: CLIENT_MS },
      (request, response) => void this.answer(request, response, handler),
    );
    this.server.keepAliveTimeout = CLIENT_MS;
    this.server.setTimeout(CLIENT_MS);
    this.server.on('connection', (socket) => {
      this.keep(socket);
    });
  }

  /** The port it listens on; 0 while it does not. */
  get port(): number {
    return (this.server.address() as AddressInfo | null)?.port ?? 0;
  }

  /**
   * Resolves when it listens, or when the port belongs to somebody who is about to leave: then it listens after that.
   * @param predecessor whether another flanneld runs on this host, which may have the port until it has handed over
   * @throws FlannelError with the remedy.
   */
  async listen(predecessor: () => boolean): Promise<void> {
    try {
      await this.bind();
    } catch (error) {
      if (codeOf(error) !== 'EADDRINUSE' || !predecessor()) throw this.explained(error);
      log.info(
        `${this.where} is taken, as by the flanneld that runs already; listening there once it has ended`,
      );
      void this.listenLater();
    }
  }

  /** Idempotent; resolves within 3 s. */
  async close(): Promise<void> {
    this.ended.abort();
    if (!this.server.listening) return;
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.server.closeIdleConnections();
    const timer = setTimeout(() => {
      this.server.closeAllConnections();
    }, SHUTDOWN_MS);
    await closed;
    clearTimeout(timer);
  }

  private get where(): string {
    const { ip, port } = this.address;
    return isIPv6(ip) ? `[${ip}]:${port}` : `${ip}:${port}`;
  }

  /** Never ends a daemon that has taken over: its packets are worth more than its health endpoint. */
  private async listenLater(): Promise<void> {
    const started = performance.now();
    let told = false;
    while (await sleep(this.retryMs, this.ended.signal)) {
      try {
        await this.bind();
        if (this.ended.signal.aborted) this.server.close();
        else log.info(`Listening on ${this.where} for health checks`);
        return;
      } catch (error) {
        if (told || performance.now() - started < PATIENCE_MS) continue;
        told = true;
        log.error(`no health checks so far, trying on: ${messageOf(this.explained(error))}`);
      }
    }
  }

  private async bind(): Promise<void> {
    const { ip, port } = this.address;
    const listening = once(this.server, 'listening'); // rejects at 'error'; both listeners are gone then
    this.server.listen({ port, ...(ip !== '' && { host: ip }) });
    await listening;
    this.server.on('error', (error) => {
      log.error(`the health endpoint ${this.where} does not accept: ${messageOf(error)}`);
    });
  }

  private keep(socket: Socket): void {
    const [oldest] = this.sockets;
    if (this.sockets.size >= MOST_CONNECTIONS) oldest?.destroy();
    this.sockets.add(socket);
    socket.once('close', () => this.sockets.delete(socket));
  }

  private async answer(request: IncomingMessage, response: ServerResponse, handler: Handler): Promise<void> {
    request.resume(); // whatever the body says
    try {
      await handler(request, response);
    } catch (error) {
      if (response.destroyed) return; // the client has gone
      log.error(`cannot answer ${JSON.stringify(request.url)}: ${messageOf(error)}`);
      if (response.headersSent) response.destroy();
      else response.writeHead(500).end();
    }
  }

  private explained(error: unknown): FlannelError {
    const { ip, port } = this.address;
    const remedies: Readonly<Record<string, string>> = {
      EADDRINUSE: `it is taken: end what listens there (\`ss -ltnp 'sport = :${port}'\` names it) or set another --healthz-port`,
      EADDRNOTAVAIL: `${ip} is not an address of this host: set another --healthz-ip`,
      EACCES: 'no permission: run as root or set a --healthz-port of 1024 or above',
    };
    const remedy =
      remedies[codeOf(error) ?? ''] ?? `${messageOf(error)}: set --healthz-ip to an address of this host`;
    return new FlannelError(`cannot listen on ${this.where} for health checks: ${remedy}`, { cause: error });
  }
}
