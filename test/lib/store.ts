import { setMaxListeners } from 'node:events';
import { Cidr4, formatIp4, parseIp4 } from '../../src/ip.js';
import type { LeaseAttrs } from '../../src/lease/lease.js';
import { formatSubnetKey } from '../../src/lease/subnet-key.js';
import { configureLog } from '../../src/log.js';
import type { LeaseEvent } from '../../src/subnet/manager.js';
import type { LeaseRegistry } from '../../src/subnet/registry.js';
import { eventually } from './eventually.js';

export const DAY_SECONDS = 86_400;

/** A signal that never fires. */
export const forever: AbortSignal = new AbortController().signal;
setMaxListeners(0, forever);

/** What a udp host at `ip` announces. */
export function attrsOf(ip: string, more: Partial<LeaseAttrs> = {}): LeaseAttrs {
  const publicIp = parseIp4(ip);
  if (publicIp === undefined) throw new Error(`not an address: ${ip}`);
  return {
    publicIp,
    publicIpV6: null,
    backendType: '',
    backendData: null,
    backendV6Data: null,
    ...more,
  };
}

export function subnetOf(cidr: string): { v4: Cidr4; v6: null } {
  const v4 = Cidr4.parse(cidr);
  if (v4 === undefined) throw new Error(`not a subnet: ${cidr}`);
  return { v4, v6: null };
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
      this.leases.set(formatSubnetKey(subnet), formatIp4(attrs.publicIp));
    }
  }
}
