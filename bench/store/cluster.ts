/** The store that `npm run bench:store` measures with: a real etcd, full of leases, and what it has been asked. */
import { setMaxListeners } from 'node:events';
import { formatLeaseValue } from '../../src/lease/lease-value.js';
import type { LeaseAttrs, LeaseSubnet } from '../../src/lease/lease.js';
import { formatSubnetKey } from '../../src/lease/subnet-key.js';
import { Cidr4 } from '../../src/ip.js';
import { EtcdClient } from '../../src/subnet/etcd/client.js';
import { LeaseIds } from '../../src/subnet/etcd/lease-id.js';
import { rpc } from '../../src/subnet/etcd/proto.js';
import type { RequestOp } from '../../src/subnet/etcd/proto.js';

export const PREFIX = '/coreos.com/network';
const NETWORK = {
  Network: '10.0.0.0/8',
  SubnetLen: 24,
  SubnetMin: '10.0.0.0',
  SubnetMax: '10.255.255.0',
  Backend: { Type: 'udp' },
};
export const CONFIG = JSON.stringify(NETWORK);
/** The same with IPv6. */
export const DUAL_CONFIG = JSON.stringify({ ...NETWORK, EnableIPv6: true, IPv6Network: 'fd00::/48' });
/** Every /24 of 10.0.0.0/8. */
export const LEASES = 65_536;

const TTL_SECONDS = '86400';
/** Requests in flight at once while the store is filled. */
const TOGETHER = 128;
/** etcd takes up to 128 operations a transaction unless told otherwise. */
const PUTS_A_TRANSACTION = 100;

const never = new AbortController().signal;
setMaxListeners(0, never);

/** The n-th subnet, as the lease of the host with public IP `publicIp`. */
export function nthLease(n: number, publicIp = 0xac10_0000 + n): { subnet: LeaseSubnet; attrs: LeaseAttrs } {
  const attrs = { publicIp, publicIpV6: null, backendType: '', backendData: null, backendV6Data: null };
  return { subnet: { v4: new Cidr4(0x0a00_0000 + n * 256, 24), v6: null }, attrs };
}

/** Writes leases into an etcd, and counts what it is asked. */
export class LeaseWriter {
  private readonly client: EtcdClient;
  private readonly etcdLeases: string[] = [];

  constructor(private readonly endpoint: string) {
    const none = { caFile: '', certFile: '', keyFile: '', username: '', password: '' };
    this.client = new EtcdClient({ endpoints: [endpoint], ...none });
  }

  /** The first `count` leases of the network, each with an etcd lease of its own as flanneld makes it. */
  async fill(count = LEASES): Promise<void> {
    const numbers = Array.from({ length: count }, (_, n) => n);
    await inParts(numbers, TOGETHER, async (part) => {
      await Promise.all(
        part.map(async (n) => {
          const ID = new LeaseIds(n + 1).next();
          await this.client.unary(rpc.leaseGrant, { TTL: TTL_SECONDS, ID }, never);
          this.etcdLeases[n] = ID;
        }),
      );
    });
    await inParts(numbers, PUTS_A_TRANSACTION, (part) => this.write(part.map((n) => this.put(n))));
    await this.write([
      { request_put: { ...NO_LEASE, key: Buffer.from(`${PREFIX}/config`), value: Buffer.from(CONFIG) } },
    ]);
  }

  /** Gives the n-th subnet to another host; resolves when etcd has it. */
  async move(n: number, publicIp: number): Promise<void> {
    await this.write([this.put(n, publicIp)]);
  }

  /** How long one request for a TTL takes, in milliseconds, the way stock flannel asks for each lease in turn. */
  async timeTtlRequests(count: number): Promise<number> {
    const started = performance.now();
    for (let n = 0; n < count; n++) {
      await this.client.unary(rpc.leaseTimeToLive, { ID: this.etcdLeases[n] ?? '0', keys: false }, never);
    }
    return (performance.now() - started) / count;
  }

  /** Requests and streams that the server has begun to serve since it started. */
  async requestsServed(): Promise<number> {
    const text = await (await fetch(`${this.endpoint}/metrics`)).text();
    let sum = 0;
    for (const [, value] of text.matchAll(/^grpc_server_started_total\{[^}]*\} (\S+)$/gm))
      sum += Number(value);
    return sum;
  }

  close(): void {
    this.client.close();
  }

  private put(n: number, publicIp?: number): RequestOp {
    const { subnet, attrs } = nthLease(n, publicIp);
    const key = Buffer.from(`${PREFIX}/subnets/${formatSubnetKey(subnet)}`);
    const value = Buffer.from(formatLeaseValue(attrs));
    return { request_put: { key, value, lease: this.etcdLeases[n] ?? '0', prev_kv: false } };
  }

  private async write(puts: readonly RequestOp[]): Promise<void> {
    await this.client.unary(rpc.txn, { compare: [], success: puts, failure: [] }, never);
  }
}

const NO_LEASE = { lease: '0', prev_kv: false };

async function inParts<T>(items: readonly T[], size: number, use: (part: readonly T[]) => Promise<unknown>) {
  for (let at = 0; at < items.length; at += size) await use(items.slice(at, at + size));
}
