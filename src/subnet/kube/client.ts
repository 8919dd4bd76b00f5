import type { Readable } from 'node:stream';
import { FlannelError } from '../../errors.js';
import type { ClusterAccess } from './access.js';
import { connectionError, KubeError, statusError } from './error.js';
import { ItemParser } from './item-parser.js';
import { fieldsOf } from './json.js';
import type { JsonFields } from './json.js';
import { LineParser } from './line-parser.js';
import { Transport } from './transport.js';
import type { Answer, TransportTimings } from './transport.js';

/** Milliseconds. */
export interface KubeTimings extends TransportTimings {
  /** Between two pieces of an answer that is not a watch. */
  readonly pauseMs: number;
  /** Added to the time for which a watch was asked for, before it is taken for dead. */
  readonly graceMs: number;
}

const TIMINGS: KubeTimings = {
  connectMs: 4_000,
  answerMs: 8_000,
  pingMs: 2_500,
  pauseMs: 8_000,
  graceMs: 5_000,
};

/** Longer than any node: etcd takes no request of more than 1.5 MB. */
const MOST_LINE = 16 << 20;
const MOST_ERROR = 64 << 10;
const MERGE_PATCH = 'application/strategic-merge-patch+json';

/** What is used of the API: objects, pages of lists, watches. */
export class KubeClient {
  private readonly transport: Transport;

  constructor(
    private readonly access: ClusterAccess,
    private readonly timings: KubeTimings = TIMINGS,
  ) {
    this.transport = new Transport(access, timings);
  }

  /** Whether a dead connection is noticed without anything being asked. Known after a first request. */
  get noticesSilence(): boolean {
    return this.transport.pings;
  }

  /** An object. @throws KubeError */
  async get(path: string, signal: AbortSignal): Promise<JsonFields> {
    return this.object('GET', path, null, signal);
  }

  /** A strategic merge patch; the object as it is then. @throws KubeError */
  async patch(path: string, patch: unknown, signal: AbortSignal): Promise<JsonFields> {
    return this.object('PATCH', path, JSON.stringify(patch), signal);
  }

  /** A list, or a page of one, without its items: they are passed on one by one. @throws KubeError */
  async list(path: string, onItem: (item: unknown) => void, signal: AbortSignal): Promise<JsonFields> {
    const parser = new ItemParser(onItem);
    const { body } = await this.send('GET', path, null, signal);
    return this.reading(path, signal, async () => {
      for await (const chunk of piecewise(body, this.timings.pauseMs)) parser.push(chunk);
      return fieldsOf(parser.end());
    });
  }

  /**
   * The events of a watch, as they arrive together, until the server ends it; none at first, when it has begun.
   * @param timeoutSeconds after which the server is to end it
   * @throws KubeError
   */
  async *watch(path: string, timeoutSeconds: number, signal: AbortSignal): AsyncGenerator<JsonFields[]> {
    const { body } = await this.send('GET', `${path}&timeoutSeconds=${timeoutSeconds}`, null, signal);
    const lines = new LineParser(MOST_LINE);
    const late = setTimeout(
      () => {
        body.destroy(new KubeError('the watch did not end when it should have'));
      },
      timeoutSeconds * 1000 + this.timings.graceMs,
    );
    try {
      yield [];
      for await (const chunk of body as AsyncIterable<Buffer>) {
        const events = lines.push(chunk).map((line) => fieldsOf(JSON.parse(line)));
        if (events.length > 0) yield events;
      }
    } catch (error) {
      signal.throwIfAborted();
      throw connectionError(error, 'the watch broke');
    } finally {
      clearTimeout(late);
      body.destroy();
    }
  }

  close(): void {
    this.transport.close();
  }

  private async object(
    method: 'GET' | 'PATCH',
    path: string,
    body: string | null,
    signal: AbortSignal,
  ): Promise<JsonFields> {
    const answer = await this.send(method, path, body, signal);
    return this.reading(path, signal, async () => {
      const text = await textOfBody(answer.body, this.timings.pauseMs, MOST_LINE);
      return fieldsOf(JSON.parse(text));
    });
  }

  /** An answer that is none of an error. A rejected identity is asked for something new, once. */
  private async send(
    method: 'GET' | 'PATCH',
    path: string,
    body: string | null,
    signal: AbortSignal,
  ): Promise<Answer> {
    const first = await this.exchange(method, path, body, signal);
    if (first.status !== 401) return this.successful(method, path, first);
    first.body.destroy();
    this.access.identity.rejected();
    this.transport.renew();
    return this.successful(method, path, await this.exchange(method, path, body, signal));
  }

  private async exchange(
    method: 'GET' | 'PATCH',
    path: string,
    body: string | null,
    signal: AbortSignal,
  ): Promise<Answer> {
    const authorization = await this.authorization();
    const headers = {
      accept: 'application/json',
      'user-agent': 'flannel-udp',
      ...(authorization !== null && { authorization }),
      ...(body !== null && { 'content-type': MERGE_PATCH }),
    };
    const root = this.access.server.pathname.replace(/\/$/, '');
    return this.transport.exchange({ method, path: root + path, headers, body }, signal);
  }

  /** A file that is away, or a program that fails, may be well in a moment. */
  private async authorization(): Promise<string | null> {
    try {
      return await this.access.identity.authorization();
    } catch (error) {
      if (!(error instanceof FlannelError)) throw error;
      throw new KubeError(error.message, null, null, { cause: error });
    }
  }

  private async successful(method: string, path: string, answer: Answer): Promise<Answer> {
    if (answer.status >= 200 && answer.status < 300) return answer;
    const text = await textOfBody(answer.body, this.timings.pauseMs, MOST_ERROR).catch(() => '');
    const [resource = path] = path.split('?');
    throw statusError(text, answer.status, answer.retryAfter, `${method} ${resource}`);
  }

  private async reading<T>(path: string, signal: AbortSignal, read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      signal.throwIfAborted();
      throw connectionError(error, `no whole answer to ${path.split('?')[0] ?? path}`);
    }
  }
}

/** @throws Error when the next piece is late. */
async function* piecewise(body: Readable, pauseMs: number): AsyncGenerator<Buffer> {
  const timer = setTimeout(() => {
    body.destroy(new Error(`nothing more in ${pauseMs / 1000} s`));
  }, pauseMs);
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      timer.refresh();
      yield chunk;
    }
  } finally {
    clearTimeout(timer);
    body.destroy();
  }
}

async function textOfBody(body: Readable, pauseMs: number, most: number): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of piecewise(body, pauseMs)) {
    length += chunk.length;
    if (length > most) throw new Error(`an answer of more than ${most} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
