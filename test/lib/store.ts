import { setMaxListeners } from 'node:events';
import { Cidr4, parseIp4 } from '../../src/ip.js';
import { canonicalIp6, Cidr6 } from '../../src/ip6.js';
import type { LeaseAttrs, LeaseSubnet } from '../../src/lease/lease.js';
import { formatPublicIp } from '../../src/lease/identity.js';
import { formatSubnetKey } from '../../src/lease/subnet-key.js';
import { Spans } from '../../src/lease/subnet-space.js';
import type { SubnetSpace } from '../../src/lease/subnet-space.js';
import { configureLog } from '../../src/log.js';
import type { LeaseEvent } from '../../src/subnet/manager.js';
import type { LeaseRegistry } from '../../src/subnet/registry.js';
import type { PreviousSubnets } from '../../src/subnet/subnet-file.js';
import { eventually } from './eventually.js';

export const DAY_SECONDS = 86_400;

/** A host that had no subnet before. */
export const NO_PREVIOUS: PreviousSubnets = { v4: null, v6: null };

/** A signal that never fires. */
export const forever: AbortSignal = new AbortController().signal;
setMaxListeners(0, forever);

/** What a udp host at `ip`, of either family, announces. */
export function attrsOf(ip: string, more: Partial<LeaseAttrs> = {}): LeaseAttrs {
  const publicIp = parseIp4(ip);
  const publicIpV6 = canonicalIp6(ip);
  if (publicIp === undefined && publicIpV6 === undefined) throw new Error(`not an address: ${ip}`);
  return {
    publicIp: publicIp ?? 0,
    publicIpV6: publicIpV6 ?? null,
    backendType: '',
    backendData: null,
    backendV6Data: null,
    ...more,
  };
}

/** Of both families: `10.5.1.0/24 fd00::/64`, either of which may be missing. */
export function bothOf(cidrs: string): LeaseSubnet {
  const parts = cidrs.split(' ');
  return {
    v4: parts.map((part) => Cidr4.parse(part)).find((cidr) => cidr !== undefined) ?? null,
    v6: parts.map((part) => Cidr6.parse(part)).find((cidr) => cidr !== undefined) ?? null,
  };
}

export function subnetOf(cidr: string): { v4: Cidr4; v6: null } {
  const v4 = Cidr4.parse(cidr);
  if (v4 === undefined) throw new Error(`not a subnet: ${cidr}`);
  return { v4, v6: null };
}

/** The subnets of a space that prefixes overlap. */
export function spansOf<Prefix>(space: SubnetSpace<Prefix>, prefixes: readonly Prefix[]): Spans {
  const spans = new Spans(prefixes.length);
  for (const prefix of prefixes) space.addSpan(prefix, spans);
  return spans;
}

/** The log lines written from now on. */
export function captureLog(): string[] {
  const lines: string[] = [];
  configureLog({ write: (line) => lines.push(line) });
  return lines;
}

const running = new Set<WatchTable>();

/** Ends the watches that a test has left running, which failed ones do. */
export async function stopWatches(): Promise<void> {
  await Promise.all([...running].map((table) => table.stop()));
}

/** A consumer of a watch: `<subnet key> <public IP>` of each lease, as events leave them. */
export class WatchTable {
  readonly batches: (readonly LeaseEvent[])[] = [];
  private readonly leases = new Map<string, string>();
  private readonly controller = new AbortController();
  private readonly ended: Promise<void>;

  constructor(registry: LeaseRegistry) {
    this.ended = this.consume(registry);
    running.add(this);
  }

  get rows(): string[] {
    return [...this.leases].map(([key, ip]) => `${key} ${ip}`).sort();
  }

  get snapshots(): number {
    return this.batches.flat().filter((event) => event.type === 'snapshot').length;
  }

  /** Resolves once the table is exactly this. */
  async becomes(rows: readonly string[], ms?: number): Promise<void> {
    const wanted = [...rows].sort().join('\n');
    await eventually(() => {
      if (this.rows.join('\n') !== wanted)
        throw new Error(`expected\n${wanted}\nnot\n${this.rows.join('\n')}`);
    }, ms);
  }

  /** Ends the watch; rejects when it failed or does not end. */
  async stop(): Promise<void> {
    running.delete(this);
    this.controller.abort();
    await this.ended;
  }

  private async consume(registry: LeaseRegistry): Promise<void> {
    for await (const batch of registry.watch(this.controller.signal)) {
      this.batches.push(batch);
      for (const event of batch) this.apply(event);
    }
  }

  private apply(event: LeaseEvent): void {
    if (event.type === 'delete') {
      this.leases.delete(formatSubnetKey(event.subnet));
      return;
    }
    if (event.type === 'snapshot') this.leases.clear();
    for (const { subnet, attrs } of event.type === 'put' ? [event.lease] : event.leases) {
      this.leases.set(formatSubnetKey(subnet), formatPublicIp(attrs));
    }
  }
}
