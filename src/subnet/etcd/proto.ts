import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { fromJSON } from '@grpc/proto-loader';

/**
 * The part of etcd's v3 API (packages etcdserverpb and mvccpb) that a subnet registry needs: names, types and
 * numbers of its fields as they stand on the wire since etcd 3.4. Fields that are left out are skipped by the
 * decoder, and defaults stand for them at the server.
 *
 * 64-bit integers are decimal text here, because a JavaScript number cannot hold every one.
 */

/** Turns lines of proto3, `[repeated] type name = number;`, into a protobufjs message descriptor. */
function message(lines = ''): object {
  const fields: Record<string, object> = {};
  for (const [, rule, type, name, id] of lines.matchAll(/(repeated )?([\w.]+) (\w+) = (\d+);/g)) {
    fields[name ?? ''] = { type, id: Number(id), ...(rule === undefined ? {} : { rule: 'repeated' }) };
  }
  return { fields };
}

function unary(request: string, response: string) {
  return { requestType: request, responseType: response, comment: '' };
}

const mvccpb = {
  KeyValue: message(
    `bytes key = 1; int64 create_revision = 2; int64 mod_revision = 3; int64 version = 4; bytes value = 5; int64 lease = 6;`,
  ),
  EventType: { values: { PUT: 0, DELETE: 1 } },
  Event: message(`EventType type = 1; KeyValue kv = 2;`),
};

const etcdserverpb = {
  ResponseHeader: message(`uint64 cluster_id = 1; int64 revision = 3; uint64 raft_term = 4;`),

  RangeRequest: message(`bytes key = 1; bytes range_end = 2; bool keys_only = 8;`),
  RangeResponse: message(`ResponseHeader header = 1; repeated mvccpb.KeyValue kvs = 2;`),
  PutRequest: message(`bytes key = 1; bytes value = 2; int64 lease = 3; bool prev_kv = 4;`),
  PutResponse: message(`mvccpb.KeyValue prev_kv = 2;`),
  DeleteRangeRequest: message(`bytes key = 1; bytes range_end = 2; bool prev_kv = 3;`),
  DeleteRangeResponse: message(`int64 deleted = 2; repeated mvccpb.KeyValue prev_kvs = 3;`),
  RequestOp: message(`
    RangeRequest request_range = 1; PutRequest request_put = 2; DeleteRangeRequest request_delete_range = 3;`),
  ResponseOp: message(`
    RangeResponse response_range = 1; PutResponse response_put = 2;
    DeleteRangeResponse response_delete_range = 3;`),
  CompareResult: { values: { EQUAL: 0 } },
  CompareTarget: { values: { VERSION: 0, MOD: 2, VALUE: 3 } },
  Compare: message(`
    CompareResult result = 1; CompareTarget target = 2; bytes key = 3;
    int64 version = 4; int64 mod_revision = 6; bytes value = 7;
    bytes range_end = 64;`),
  TxnRequest: message(`
    repeated Compare compare = 1; repeated RequestOp success = 2; repeated RequestOp failure = 3;`),
  TxnResponse: message(`ResponseHeader header = 1; bool succeeded = 2; repeated ResponseOp responses = 3;`),

  WatchCreateRequest: message(`
    bytes key = 1; bytes range_end = 2; int64 start_revision = 3; bool progress_notify = 4;`),
  WatchProgressRequest: message(),
  WatchRequest: message(`WatchCreateRequest create_request = 1; WatchProgressRequest progress_request = 3;`),
  WatchResponse: message(`
    ResponseHeader header = 1; int64 watch_id = 2; bool created = 3; bool canceled = 4;
    int64 compact_revision = 5; string cancel_reason = 6; repeated mvccpb.Event events = 11;`),

  LeaseGrantRequest: message(`int64 TTL = 1; int64 ID = 2;`),
  LeaseGrantResponse: message(`int64 ID = 2; int64 TTL = 3; string error = 4;`),
  LeaseRevokeRequest: message(`int64 ID = 1;`),
  LeaseRevokeResponse: message(),
  LeaseTimeToLiveRequest: message(`int64 ID = 1; bool keys = 2;`),
  LeaseTimeToLiveResponse: message(`int64 TTL = 3; repeated bytes keys = 5;`),

  AuthenticateRequest: message(`string name = 1; string password = 2;`),
  AuthenticateResponse: message(`string token = 2;`),

  KV: {
    methods: { Range: unary('RangeRequest', 'RangeResponse'), Txn: unary('TxnRequest', 'TxnResponse') },
  },
  Watch: {
    methods: {
      Watch: { ...unary('WatchRequest', 'WatchResponse'), requestStream: true, responseStream: true },
    },
  },
  Lease: {
    methods: {
      LeaseGrant: unary('LeaseGrantRequest', 'LeaseGrantResponse'),
      LeaseRevoke: unary('LeaseRevokeRequest', 'LeaseRevokeResponse'),
      LeaseTimeToLive: unary('LeaseTimeToLiveRequest', 'LeaseTimeToLiveResponse'),
    },
  },
  Auth: { methods: { Authenticate: unary('AuthenticateRequest', 'AuthenticateResponse') } },
};

const definitions = fromJSON(
  { nested: { mvccpb: { nested: mvccpb }, etcdserverpb: { nested: etcdserverpb } } },
  { keepCase: true, longs: String, enums: String, defaults: true },
);

/** One RPC: where it goes and how its messages are turned into bytes. */
export type Method<Request extends object, Response extends object> = MethodDefinition<Request, Response>;

function method<Request extends object, Response extends object>(
  service: string,
  name: string,
): Method<Request, Response> {
  const found = (definitions[`etcdserverpb.${service}`] as ServiceDefinition)[name];
  return found as Method<Request, Response>;
}

export interface ResponseHeader {
  readonly cluster_id: string;
  /** The store's revision when it answered. */
  readonly revision: string;
  readonly raft_term: string;
}

export interface KeyValue {
  readonly key: Buffer;
  readonly value: Buffer;
  /** The store's revision at the first write of this key since it is there. */
  readonly create_revision: string;
  /** The store's revision at the last write of this key. */
  readonly mod_revision: string;
  /** The etcd lease the key lives by; '0' when it has none. */
  readonly lease: string;
}

export interface RangeRequest {
  readonly key: Buffer;
  /** Exclusive; absent for exactly `key`. */
  readonly range_end?: Buffer;
  /** Without the values. */
  readonly keys_only?: boolean;
}

export interface RangeResponse {
  readonly header: ResponseHeader | null;
  readonly kvs: readonly KeyValue[];
}

export interface RequestOp {
  readonly request_range?: RangeRequest;
  readonly request_put?: { key: Buffer; value: Buffer; lease: string; prev_kv: boolean };
  readonly request_delete_range?: { key: Buffer; prev_kv: boolean };
}

export type Compare =
  | {
      readonly target: 'VERSION';
      readonly key: Buffer;
      /** Exclusive; then it is about every key from `key` on. */
      readonly range_end?: Buffer;
      readonly version: string;
    }
  | { readonly target: 'MOD'; readonly key: Buffer; readonly mod_revision: string }
  | { readonly target: 'VALUE'; readonly key: Buffer; readonly value: Buffer };

export interface TxnRequest {
  readonly compare: readonly Compare[];
  readonly success: readonly RequestOp[];
  readonly failure: readonly RequestOp[];
}

export interface TxnResponse {
  readonly header: ResponseHeader | null;
  readonly succeeded: boolean;
  readonly responses: readonly {
    readonly response_range: RangeResponse | null;
    readonly response_put: { readonly prev_kv: KeyValue | null } | null;
    readonly response_delete_range: { readonly prev_kvs: readonly KeyValue[] } | null;
  }[];
}

export interface WatchRequest {
  readonly create_request?: {
    key: Buffer;
    range_end: Buffer;
    start_revision: string;
    progress_notify: boolean;
  };
  readonly progress_request?: object;
}

export interface WatchResponse {
  /** That of the watch, or -1 when the response concerns none in particular. */
  readonly watch_id: string;
  readonly header: ResponseHeader | null;
  readonly created: boolean;
  readonly canceled: boolean;
  /** Not '0' when the watch was refused because its start revision has been compacted away. */
  readonly compact_revision: string;
  readonly cancel_reason: string;
  readonly events: readonly { readonly type: 'PUT' | 'DELETE'; readonly kv: KeyValue | null }[];
}

export const rpc = {
  range: method<RangeRequest, RangeResponse>('KV', 'Range'),
  txn: method<TxnRequest, TxnResponse>('KV', 'Txn'),
  watch: method<WatchRequest, WatchResponse>('Watch', 'Watch'),
  leaseGrant: method<{ TTL: string; ID: string }, { ID: string; TTL: string; error: string }>(
    'Lease',
    'LeaseGrant',
  ),
  leaseRevoke: method<{ ID: string }, object>('Lease', 'LeaseRevoke'),
  leaseTimeToLive: method<{ ID: string; keys: boolean }, { TTL: string; keys: readonly Buffer[] }>(
    'Lease',
    'LeaseTimeToLive',
  ),
  authenticate: method<{ name: string; password: string }, { token: string }>('Auth', 'Authenticate'),
};
