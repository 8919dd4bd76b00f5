import { Metadata, status } from '@grpc/grpc-js';
import { UsageError } from '../../errors.js';
import { log } from '../../log.js';
import { parseEndpoint } from './endpoint.js';
import { EtcdError, isMemberTrouble, isServiceError, wantsLogin } from './error.js';
import { DEFAULT_TIMINGS, Member } from './member.js';
import type { EtcdTimings } from './member.js';
import { rpc } from './proto.js';
import type { Method } from './proto.js';
import { TlsCredentials } from './tls.js';
import type { TlsFiles } from './tls.js';

export interface EtcdClientOptions extends TlsFiles {
  /** `http://`, `https://` or `unix://` addresses, or bare `host:port`. */
  readonly endpoints: readonly string[];
  /** Empty: no authentication. */
  readonly username: string;
  readonly password: string;
}

/**
 * Calls to an etcd cluster. Each goes to one member, the one that answered last; when that one fails, the
 * others are tried in turn, each once.
 */
export class EtcdClient {
  private readonly members: readonly Member[];
  private readonly tls: TlsCredentials | null;
  /** Index of the member to ask. */
  private preferred = 0;
  private token: string | null = null;
  private closed = false;

  /** @throws UsageError for an endpoint or a TLS file that cannot be used. */
  constructor(
    private readonly options: EtcdClientOptions,
    readonly timings: EtcdTimings = DEFAULT_TIMINGS,
  ) {
    const hasTlsFiles = [options.caFile, options.certFile, options.keyFile].some((file) => file !== '');
    const endpoints = options.endpoints
      .filter((text) => text.trim() !== '')
      .map((text) => parseEndpoint(text, hasTlsFiles));
    if (endpoints.length === 0) {
      throw new UsageError(
        'no etcd endpoint is given; name one, e.g. --etcd-endpoints=http://127.0.0.1:2379',
      );
    }
    const tls = endpoints.some((endpoint) => endpoint.tls) ? new TlsCredentials(options) : null;
    if (hasTlsFiles && tls === null) {
      log.warning('TLS files are given, but no etcd endpoint is https: the traffic to etcd is not encrypted');
    }
    this.tls = tls;
    this.members = endpoints.map((endpoint) => new Member(endpoint, tls, timings));
  }

  /**
   * One request and its answer.
   * @throws EtcdError when no member answers or one refuses; the signal's reason when it fires.
   */
  async unary<Request extends object, Response extends object>(
    method: Method<Request, Response>,
    request: Request,
    signal: AbortSignal,
  ): Promise<Response> {
    const failures: EtcdError[] = [];
    let loggedIn = false;
    for (;;) {
      signal.throwIfAborted();
      const member = this.member();
      try {
        return await member.unary(method, request, await this.metadata(member, signal), signal);
      } catch (error) {
        signal.throwIfAborted();
        if (!isServiceError(error)) throw error;
        if (wantsLogin(error) && this.token !== null && !loggedIn) {
          this.token = null;
          loggedIn = true;
          continue;
        }
        failures.push(EtcdError.from(error, member.endpoint.name));
        this.reportFailure(member, error.code);
        if (!isMemberTrouble(error.code) || failures.length >= this.members.length) throw combine(failures);
      }
    }
  }

  /** The member to open a stream at; `reportFailure` tells of its end. */
  member(): Member {
    const member = this.members[this.preferred];
    if (member === undefined || this.closed) {
      throw new EtcdError(status.CANCELLED, 'the etcd client is closed', false);
    }
    return member;
  }

  /** What a call to `member` has to carry; logs in first where that is needed. */
  async metadata(member: Member, signal: AbortSignal): Promise<Metadata> {
    const metadata = new Metadata();
    if (this.options.username !== '') {
      this.token ??= await this.login(member, signal);
      if (this.token !== '') metadata.set('token', this.token);
    }
    return metadata;
  }

  /** After a failure at `member`: the next call goes elsewhere if it can, and over a connection that works. */
  reportFailure(member: Member, code: status): void {
    if (this.closed || !isMemberTrouble(code)) return;
    // A simple token names a state of the cluster, and etcd lets calls wait until it has come so far: for ever where
    // the store was wiped since the login.
    if (code === status.DEADLINE_EXCEEDED) this.token = null;
    const rotated = this.tls?.refresh() ?? false;
    if (rotated) log.info('TLS files for etcd have changed; connecting with the new ones');
    for (const each of this.members) {
      if (rotated || (each === member && code === status.DEADLINE_EXCEEDED)) each.reconnect();
    }
    if (member !== this.members[this.preferred] || this.members.length === 1) return;
    this.preferred = (this.preferred + 1) % this.members.length;
    // What killed the one connection may have killed an idle one to the next member as well, and only a call of
    // several seconds would find out.
    this.member().reconnect();
  }

  /** The next call logs in again. etcd 3.4 refuses a watch with an outdated token as `permission denied`. */
  forgetToken(): void {
    this.token = null;
  }

  close(): void {
    this.closed = true;
    for (const member of this.members) member.close();
  }

  /** A token, or '' when the cluster has authentication switched off. */
  private async login(member: Member, signal: AbortSignal): Promise<string> {
    const { username, password } = this.options;
    try {
      const answer = await member.unary(
        rpc.authenticate,
        { name: username, password },
        new Metadata(),
        signal,
      );
      return answer.token;
    } catch (error) {
      if (isServiceError(error) && error.details.includes('authentication is not enabled')) return '';
      throw error;
    }
  }
}

function combine(failures: readonly EtcdError[]): EtcdError {
  const last = failures.at(-1);
  if (last === undefined || failures.length === 1) return last ?? new EtcdError(status.UNKNOWN, 'etcd', true);
  const message = failures.map((failure) => failure.message).join('; ');
  const mayHaveApplied = failures.some((failure) => failure.mayHaveApplied);
  return new EtcdError(last.status, message, mayHaveApplied, { cause: last });
}
