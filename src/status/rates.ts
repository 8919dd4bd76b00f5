/** What moves between two reports. The page loads this file as it is. */
import type { PeerReport, StatusReport, TrafficReport } from './report.js';

/** Per second, of inner packets, as seen from this host. */
export interface Rate {
  readonly bitsOut: number;
  readonly bitsIn: number;
  readonly packetsOut: number;
  readonly packetsIn: number;
}

export interface Rates {
  readonly total: Rate | null;
  /** By the peer's subnet; of those that both reports count. */
  readonly peers: ReadonlyMap<string, Rate>;
}

/** Null where the reports are not two of one run, the earlier one first. */
export function ratesBetween(before: StatusReport, after: StatusReport): Rates | null {
  const seconds = (Date.parse(after.at) - Date.parse(before.at)) / 1000;
  if (!(seconds > 0) || before.startedAt !== after.startedAt || before.pid !== after.pid) return null;
  const earlier = new Map(before.peers.map((peer) => [peer.subnet, peer]));
  const peers = new Map<string, Rate>();
  for (const peer of after.peers) {
    const rate = rateOf(earlier.get(peer.subnet)?.traffic ?? null, peer.traffic, seconds);
    if (rate !== null) peers.set(peer.subnet, rate);
  }
  return { total: rateOf(totalOf(before), totalOf(after), seconds), peers };
}

/** What the dataplane has carried to and from all peers; null before there is one. */
export function totalOf({ dataplane }: StatusReport): TrafficReport | null {
  if (dataplane === null) return null;
  const { encap, decap } = dataplane;
  return {
    packetsOut: encap.packetsOut,
    bytesOut: encap.bytes,
    packetsIn: decap.packetsOut,
    bytesIn: decap.bytes,
  };
}

function rateOf(before: TrafficReport | null, after: TrafficReport | null, seconds: number): Rate | null {
  if (before === null || after === null) return null;
  // A count that has fallen is a new one: the peer went and came back.
  const perSecond = (name: keyof TrafficReport) => Math.max(0, after[name] - before[name]) / seconds;
  return {
    bitsOut: perSecond('bytesOut') * 8,
    bitsIn: perSecond('bytesIn') * 8,
    packetsOut: perSecond('packetsOut'),
    packetsIn: perSecond('packetsIn'),
  };
}

/** The busiest first: by their rates where there are any, then by all they have carried, then by subnet. */
export function byTraffic(peers: readonly PeerReport[], rates: Rates | null): PeerReport[] {
  const rate = ({ subnet }: PeerReport) => {
    const of = rates?.peers.get(subnet);
    return of === undefined ? 0 : of.bitsOut + of.bitsIn;
  };
  const carried = ({ traffic }: PeerReport) => (traffic === null ? 0 : traffic.bytesOut + traffic.bytesIn);
  return [...peers].sort(
    (a, b) => rate(b) - rate(a) || carried(b) - carried(a) || numeric(a.subnet) - numeric(b.subnet),
  );
}

/** Of an `a.b.c.d/len`, for its order. */
function numeric(subnet: string): number {
  return subnet
    .split('/', 1)
    .join('')
    .split('.')
    .reduce((sum, octet) => sum * 256 + Number(octet), 0);
}
