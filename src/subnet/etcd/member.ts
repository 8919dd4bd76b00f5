import { Client, connectivityState, credentials, status } from '@grpc/grpc-js';
import type { ClientDuplexStream, Metadata } from '@grpc/grpc-js';
import type { Endpoint } from './endpoint.js';
import type { Method } from './proto.js';
import type { TlsCredentials } from './tls.js';

/** Milliseconds. A test shortens them. */
export interface EtcdTimings {
  /** How long one member may take to answer one request. */
  readonly requestMs: number;
  /** Pings on a connection with calls in progress; etcd hangs up on more than one in 5 s. */
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
  /** After this long without a word on a watch, the store is asked whether the watch still lives. */
  readonly silenceMs: number;
}

export const DEFAULT_TIMINGS: EtcdTimings = {
  requestMs: 10_000,
  keepaliveMs: 6_000,
  keepaliveTimeoutMs: 3_000,
  silenceMs: 30_000,
};

/** A connection that takes longer is none: its handshake was swallowed on the way. */
const CONNECT_MS = 3_000;

/** One etcd member and the gRPC channel to it. */
export class Member {
  private client: Client;

  constructor(
    readonly endpoint: Endpoint,
    private readonly tls: TlsCredentials | null,
    private readonly timings: EtcdTimings,
  ) {
    this.client = this.connect();
  }

  /** Rejects with a ServiceError, or with the signal's reason. */
  unary<Request extends object, Response extends object>(
    method: Method<Request, Response>,
    request: Request,
    metadata: Metadata,
    signal: AbortSignal,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const call = this.client.makeUnaryRequest<Request, Response>(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        metadata,
        { deadline: Date.now() + this.timings.requestMs },
        (error, response) => {
          clearTimeout(unconnected);
          if (error !== null && gaveUp) error.code = status.DEADLINE_EXCEEDED;
          signal.removeEventListener('abort', cancel);
          if (signal.aborted) reject(signal.reason as Error);
          else if (error !== null) reject(error);
          else if (response === undefined) reject(new Error('gRPC gave neither a response nor an error'));
          else resolve(response);
        },
      );
      const cancel = (): void => {
        call.cancel();
      };
      let gaveUp = false;
      const channel = this.client.getChannel();
      const unconnected = setTimeout(() => {
        gaveUp = channel.getConnectivityState(false) === connectivityState.CONNECTING;
        if (gaveUp) cancel();
      }, CONNECT_MS);
      signal.addEventListener('abort', cancel, { once: true });
    });
  }

  stream<Request extends object, Response extends object>(
    method: Method<Request, Response>,
    metadata: Metadata,
  ): ClientDuplexStream<Request, Response> {
    return this.client.makeBidiStreamRequest<Request, Response>(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      metadata,
    );
  }

  /**
   * Starts over with a new connection. grpc-js gives the TLS and HTTP/2 handshakes no deadline, so a channel
   * whose peer swallowed them would never try another connection by itself.
   */
  reconnect(): void {
    this.client.close();
    this.client = this.connect();
  }

  close(): void {
    this.client.close();
  }

  private connect(): Client {
    const channelCredentials =
      this.endpoint.tls && this.tls !== null
        ? this.tls.for(this.endpoint.address)
        : credentials.createInsecure();
    return new Client(this.endpoint.target, channelCredentials, {
      'grpc.keepalive_time_ms': this.timings.keepaliveMs,
      'grpc.keepalive_timeout_ms': this.timings.keepaliveTimeoutMs,
      // Our callers have their own back-off and their own idea of what may be repeated.
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1_000,
      'grpc.enable_retries': 0,
      // Else a channel would share the stuck connection of the one it replaces.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.service_config_disable_resolution': 1,
      // The default of 4 MiB is less than the leases of a big network take.
      'grpc.max_receive_message_length': -1,
    });
  }
}
