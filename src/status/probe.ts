/** How far peers are: measured when somebody asks, not before, and kept for a while. */
import type { Ip } from '../address.js';
import { openEcho } from '../echo.js';
import type { Echo, EchoAccess } from '../echo.js';
import type { IpVersion } from '../icmp.js';
import { sleep } from '../retry.js';

const ECHO = { size: 84, dontFragment: false, timeoutMs: 1000 };
/** However many peers there are. */
const MOST_IN_FLIGHT = 64;
/** A measurement that is older is made again. */
const KEPT_MS = 3_000;
/** Nobody has asked for so long: the raw sockets, which hear all of the host's ICMP, are closed. */
const IDLE_MS = 15_000;

export interface Target {
  /** The subnet in the report. */
  readonly key: string;
  /** On the overlay. */
  readonly overlay: Ip;
}

export interface Distance {
  /** Null where the echo was not answered. */
  readonly rttMs: number | null;
}

export class PeerProbe {
  private distances = new Map<string, Distance>();
  private round: Promise<void> | null = null;
  private measuredAt = -Infinity;
  /** By the family of the targets. */
  private readonly echoes = new Map<IpVersion, Echo>();
  private idle: NodeJS.Timeout | null = null;
  private closed = false;
  /** Why no round trips can be measured; null while they can, or while nobody has tried. */
  unavailable: string | null = null;

  /** @param open makes the socket for echoes */
  constructor(private readonly open: (version: IpVersion) => Promise<EchoAccess> = openEcho) {}

  /** The last result; undefined while there is none, or where no echo can be sent. */
  of(key: string): Distance | undefined {
    return this.distances.get(key);
  }

  /** Measures again where the last round is too old, and waits for it, at most `patienceMs`. */
  async refresh(targets: readonly Target[], patienceMs: number): Promise<void> {
    if (this.closed) return;
    this.stayAwake();
    if (this.round === null && performance.now() - this.measuredAt > KEPT_MS) {
      this.round = this.measure(targets).finally(() => {
        this.round = null;
        this.measuredAt = performance.now();
      });
    }
    if (this.round === null) return;
    const patience = new AbortController();
    await Promise.race([this.round, sleep(patienceMs, patience.signal)]);
    patience.abort();
  }

  /** Idempotent. */
  close(): void {
    this.closed = true;
    this.rest();
  }

  private async measure(targets: readonly Target[]): Promise<void> {
    const known = new Set(targets.map(({ key }) => key));
    this.distances = new Map([...this.distances].filter(([key]) => known.has(key)));
    const versions = new Set(targets.map(({ overlay }) => versionOf(overlay)));
    const refusals = await Promise.all([...versions].map((version) => this.openFor(version)));
    this.unavailable = refusals.find((reason) => reason !== null) ?? null;
    const queue = targets.values();
    const worker = async () => {
      for (const { key, overlay } of queue) {
        const result = await this.echoes.get(versionOf(overlay))?.ping(overlay, ECHO);
        if (result === undefined) this.distances.delete(key);
        else this.distances.set(key, { rttMs: result.outcome === 'reply' ? result.rttMs : null });
      }
    };
    await Promise.all(Array.from({ length: MOST_IN_FLIGHT }, worker));
  }

  /** Why there can be no echoes of a family; null where there can. */
  private async openFor(version: IpVersion): Promise<string | null> {
    if (this.echoes.has(version)) return null;
    const { echo, reason } = await this.open(version);
    if (this.closed) echo?.close();
    else if (echo !== null) this.echoes.set(version, echo);
    return reason;
  }

  private stayAwake(): void {
    if (this.idle !== null) clearTimeout(this.idle);
    this.idle = setTimeout(() => {
      this.rest();
    }, IDLE_MS);
    this.idle.unref();
  }

  private rest(): void {
    if (this.idle !== null) clearTimeout(this.idle);
    this.idle = null;
    for (const echo of this.echoes.values()) echo.close();
    this.echoes.clear();
  }
}

function versionOf(ip: Ip): IpVersion {
  return typeof ip === 'number' ? 4 : 6;
}
