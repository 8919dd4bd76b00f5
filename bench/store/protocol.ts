/** What the measured process tells the one that measures. */

/** By the system's monotonic clock, which all processes share; milliseconds. */
export interface EventTimes {
  /** The public IP that the event has brought, which is different in each. */
  readonly publicIp: number;
  /** When it came out of the watch. */
  readonly arrived: number;
  /** When a forwarding table with it was in use. */
  readonly inTable: number;
}

export interface SyncReport {
  readonly kind: 'synced';
  /** In the store's snapshot. */
  readonly leases: number;
  /** In the forwarding table. */
  readonly peers: number;
  /** From the begin of the watch to the forwarding table in use, milliseconds. */
  readonly ms: number;
  /** What acquiring the own lease took before that, milliseconds. */
  readonly acquireMs: number;
}

export interface EventsReport {
  readonly kind: 'events';
  readonly times: readonly EventTimes[];
  /** Forwarding tables made for them. */
  readonly tables: number;
  /** What making those took, milliseconds. */
  readonly tableMs: number;
}

export type SubjectReport = SyncReport | EventsReport;

/** Milliseconds by the system's monotonic clock. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
