/** Requests to an API server: over one HTTP/2 connection, or over HTTP/1.1 where the server has nothing better. */
import { once } from 'node:events';
import { request as requestHttp1 } from 'node:http';
import { connect as connectHttp2, constants } from 'node:http2';
import type { ClientHttp2Session, IncomingHttpHeaders } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import type { ClusterAccess } from './access.js';
import { connectionError, KubeError } from './error.js';

export interface Request {
  readonly method: 'GET' | 'PATCH';
  /** With its query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Null for none. */
  readonly body: string | null;
}

export interface Answer {
  readonly status: number;
  /** The header `retry-after`; null where there is none. */
  readonly retryAfter: string | null;
  /** Fails when the connection breaks before the end. */
  readonly body: Readable;
}

/** Milliseconds. */
export interface TransportTimings {
  /** Until a connection stands, TLS included. */
  readonly connectMs: number;
  /** Until an answer has begun. */
  readonly answerMs: number;
  /** Between pings, and for each to be answered. */
  readonly pingMs: number;
}

/** Bytes that may be under way to us: with the 64 KB of RFC 9113 a page of nodes would wait for dozens of round trips. */
const WINDOW = 1 << 20;

export class Transport {
  private session: Promise<ClientHttp2Session | null> | null = null;
  private closed = false;
  /** Whether the server speaks HTTP/2, so that a silent connection is known to be alive. Known after a request. */
  pings = false;

  constructor(
    private readonly access: Pick<ClusterAccess, 'server' | 'tls'>,
    private readonly timings: TransportTimings,
  ) {}

  /** Resolves once the answer has begun. @throws KubeError, or the signal's reason. */
  async exchange(request: Request, signal: AbortSignal): Promise<Answer> {
    signal.throwIfAborted();
    if (this.closed) throw new KubeError('the client is closed');
    try {
      const session = await this.connected(signal);
      return session === null
        ? await this.overHttp1(request, await this.dial(signal), signal)
        : await this.overHttp2(request, session, signal);
    } catch (error) {
      signal.throwIfAborted();
      throw connectionError(error, `cannot reach the Kubernetes API server at ${this.access.server.origin}`);
    }
  }

  /** The next request goes over a new connection; those under way go on. */
  renew(): void {
    const { session } = this;
    this.session = null;
    session?.then((old) => old?.close()).catch(() => undefined);
  }

  close(): void {
    this.closed = true;
    const { session } = this;
    this.session = null;
    session?.then((old) => old?.destroy()).catch(() => undefined);
  }

  /** The connection for all requests; null where each takes one of its own. */
  private async connected(signal: AbortSignal): Promise<ClientHttp2Session | null> {
    const before = this.session;
    // That one may be of a request that was called off.
    const found = await before?.catch(() => undefined);
    if (found === null || (found !== undefined && !found.destroyed && !found.closed)) return found;
    if (this.session === before) this.session = this.open(signal);
    return (await this.session) ?? null;
  }

  private async open(signal: AbortSignal): Promise<ClientHttp2Session | null> {
    const socket = await this.dial(signal);
    this.pings = 'alpnProtocol' in socket && socket.alpnProtocol === 'h2';
    if (!this.pings) {
      socket.destroy();
      return null;
    }
    const session = connectHttp2(this.access.server.origin, {
      createConnection: () => socket,
      settings: { initialWindowSize: WINDOW },
    });
    session.once('connect', () => {
      session.setLocalWindowSize(WINDOW);
    });
    // Whoever has a request on it hears of it there.
    session.on('error', () => undefined);
    keepAlive(session, socket, this.timings.pingMs);
    return session;
  }

  private async dial(signal: AbortSignal): Promise<Socket | TLSSocket> {
    const { server } = this.access;
    const isTls = server.protocol === 'https:';
    const host = server.hostname.replace(/^\[|\]$/g, '');
    const port = Number(server.port) || (isTls ? 443 : 80);
    const options = { host, port, keepAlive: true, keepAliveInitialDelay: this.timings.pingMs };
    const socket = isTls ? connectTls({ ...options, ...(await this.tlsOptions()) }) : connectTcp(options);
    socket.setNoDelay(true);
    const late = AbortSignal.timeout(this.timings.connectMs);
    try {
      await once(socket, isTls ? 'secureConnect' : 'connect', { signal: AbortSignal.any([signal, late]) });
      return socket;
    } catch (error) {
      socket.on('error', () => undefined).destroy();
      if (late.aborted)
        throw new Error(`no connection in ${this.timings.connectMs / 1000} s`, { cause: error });
      throw error;
    }
  }

  private async tlsOptions() {
    const { ca, certificate, serverName, insecure } = await this.access.tls();
    return {
      ...(ca !== null && { ca }),
      ...(certificate !== null && certificate),
      ...(serverName !== null && { servername: serverName }),
      rejectUnauthorized: !insecure,
      ALPNProtocols: ['h2', 'http/1.1'],
    };
  }

  private async overHttp2(
    request: Request,
    session: ClientHttp2Session,
    signal: AbortSignal,
  ): Promise<Answer> {
    const { method, path, headers, body } = request;
    const stream = session.request({
      [constants.HTTP2_HEADER_METHOD]: method,
      [constants.HTTP2_HEADER_PATH]: path,
      ...headers,
    });
    endWith(stream, signal);
    stream.end(body ?? undefined);
    const [answer] = (await this.begun(stream, stream)) as [IncomingHttpHeaders];
    return {
      status: Number(answer[constants.HTTP2_HEADER_STATUS]),
      retryAfter: answer['retry-after'] ?? null,
      body: stream,
    };
  }

  private async overHttp1(request: Request, socket: Socket, signal: AbortSignal): Promise<Answer> {
    const { method, path, body } = request;
    const { host } = this.access.server;
    const headers = { ...request.headers, host, connection: 'close' };
    const outgoing = requestHttp1({ createConnection: () => socket, method, path, headers });
    // Whoever reads the answer hears of it there.
    outgoing.on('error', () => undefined);
    endWith(socket, signal);
    outgoing.end(body ?? undefined);
    const [answer] = (await this.begun(outgoing, socket)) as [
      Readable & { statusCode?: number; headers: IncomingHttpHeaders },
    ];
    return {
      status: answer.statusCode ?? 0,
      retryAfter: answer.headers['retry-after'] ?? null,
      body: answer,
    };
  }

  /** What comes with the event `response`. @throws Error when it is late; `stream` is destroyed then. */
  private async begun(emitter: NodeJS.EventEmitter, stream: { destroy(): unknown }): Promise<unknown[]> {
    const late = AbortSignal.timeout(this.timings.answerMs);
    const gone = new AbortController();
    const onClose = () => {
      gone.abort();
    };
    emitter.once('close', onClose);
    try {
      return (await once(emitter, 'response', { signal: AbortSignal.any([late, gone.signal]) })) as unknown[];
    } catch (error) {
      emitter.on('error', () => undefined);
      stream.destroy();
      if (late.aborted) throw new Error(`no answer in ${this.timings.answerMs / 1000} s`, { cause: error });
      if (gone.signal.aborted) throw new Error('the connection was closed', { cause: error });
      throw error;
    } finally {
      emitter.off('close', onClose);
    }
  }
}

/** Destroys a stream when `signal` fires. */
function endWith(stream: Socket | ReturnType<ClientHttp2Session['request']>, signal: AbortSignal): void {
  const end = () => {
    stream.destroy();
  };
  signal.addEventListener('abort', end);
  stream.once('close', () => {
    signal.removeEventListener('abort', end);
  });
  if (signal.aborted) end();
}

/**
 * Ends a connection behind which nobody is any more, which TCP notices after a quarter of an hour: one on which a ping
 * was not answered, nor did anything else arrive, for as long as there is between two pings.
 */
function keepAlive(session: ClientHttp2Session, socket: Socket, pingMs: number): void {
  let waiting = false;
  let heard = socket.bytesRead;
  const timer = setInterval(() => {
    const { bytesRead } = socket;
    if (waiting && bytesRead === heard) {
      session.destroy(new KubeError('the connection has gone silent'));
      return;
    }
    heard = bytesRead;
    if (waiting || session.destroyed) return;
    waiting = session.ping(() => (waiting = false));
  }, pingMs);
  session.once('close', () => {
    clearInterval(timer);
  });
}
