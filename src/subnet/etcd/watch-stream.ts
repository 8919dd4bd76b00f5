import { status } from '@grpc/grpc-js';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import type { EtcdClient } from './client.js';
import { EtcdError, isServiceError } from './error.js';
import type { Member } from './member.js';
import { rpc } from './proto.js';
import type { WatchRequest, WatchResponse } from './proto.js';

/** The keys to watch and the first revision of interest. */
export interface WatchRange {
  readonly key: Buffer;
  readonly rangeEnd: Buffer;
  readonly startRevision: bigint;
}

/**
 * One watch on one gRPC stream. Responses are pulled, never pushed: a consumer that falls behind holds back the
 * stream (HTTP/2 flow control), so what waits in memory is bounded.
 */
export class WatchStream {
  private readonly responses: AsyncIterator<WatchResponse, undefined>;
  private pending: Promise<IteratorResult<WatchResponse, undefined>> | null = null;

  private constructor(
    private readonly client: EtcdClient,
    private readonly member: Member,
    private readonly call: ClientDuplexStream<WatchRequest, WatchResponse>,
    private readonly signal: AbortSignal,
  ) {
    this.responses = call[Symbol.asyncIterator]() as AsyncIterator<WatchResponse, undefined>;
    // An error that arrives after the last `next` has nobody waiting for it.
    call.on('error', () => undefined);
    signal.addEventListener('abort', this.close);
  }

  /**
   * Sends the request for a watch; its first response says how that went.
   * @throws EtcdError; the signal's reason when it fires.
   */
  static async open(client: EtcdClient, range: WatchRange, signal: AbortSignal): Promise<WatchStream> {
    const member = client.member();
    try {
      const metadata = await client.metadata(member, signal);
      // From here on the stream hears of the signal by itself; what has been, nobody tells it.
      signal.throwIfAborted();
      // A member that is cut off from the others ends the watch instead of keeping it silent.
      metadata.set('hasleader', 'true');
      const stream = new WatchStream(client, member, member.stream(rpc.watch, metadata), signal);
      stream.call.write({
        create_request: {
          key: range.key,
          range_end: range.rangeEnd,
          start_revision: range.startRevision.toString(),
          progress_notify: true,
        },
      });
      return stream;
    } catch (error) {
      throw failure(client, member, error, signal);
    }
  }

  /**
   * The next response, or null after `ms` milliseconds without one.
   * @throws EtcdError when the stream has ended, for whatever reason; the signal's reason when it fires.
   */
  async next(ms: number): Promise<WatchResponse | null> {
    this.pending ??= this.responses.next();
    let timer: NodeJS.Timeout | undefined;
    const silence = new Promise<null>((resolve) => {
      timer = setTimeout(resolve, ms, null);
    });
    try {
      const result = await Promise.race([this.pending, silence]);
      if (result === null) return null;
      this.pending = null;
      if (result.done !== true) return result.value;
    } catch (error) {
      throw failure(this.client, this.member, error, this.signal);
    } finally {
      clearTimeout(timer);
    }
    this.signal.throwIfAborted();
    throw this.fail(status.UNAVAILABLE, 'the watch was ended by the server');
  }

  /** Makes the store say something: a response without events that belongs to no watch in particular. */
  requestProgress(): void {
    this.call.write({ progress_request: {} });
  }

  /** The error for a stream that is of no use any more, after telling the client. */
  fail(code: status, cause: string): EtcdError {
    this.client.reportFailure(this.member, code);
    return new EtcdError(code, `etcd at ${this.member.endpoint.name}: ${cause}`, false);
  }

  readonly close = (): void => {
    this.signal.removeEventListener('abort', this.close);
    this.call.cancel();
  };
}

function failure(client: EtcdClient, member: Member, error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  if (!isServiceError(error)) return error;
  client.reportFailure(member, error.code);
  return EtcdError.from(error, member.endpoint.name);
}
