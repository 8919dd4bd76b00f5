/**
 * Metrics of the traffic with each peer. A network may have 65,536 of them, and each would be five series in every
 * scrape of every host: only the busiest get any, up to a number that the flags set.
 */
import { formatEndpoint } from '../address.js';
import type { PeerTraffic } from '../dataplane.js';
import { one } from './family.js';
import type { Family, Sample } from './family.js';

type Figure = 'packetsOut' | 'bytesOut' | 'packetsIn' | 'bytesIn';

const SERIES: readonly (readonly [Figure, string, string])[] = [
  ['packetsOut', 'flanneld_peer_packets_out_total', 'Packets sent to the peer.'],
  ['bytesOut', 'flanneld_peer_bytes_out_total', 'Bytes of inner packets sent to the peer.'],
  ['packetsIn', 'flanneld_peer_packets_in_total', 'Datagrams received from the address of the peer.'],
  ['bytesIn', 'flanneld_peer_bytes_in_total', 'Bytes of those.'],
];

/**
 * @param most how many peers get series of their own
 * @param linkMtu of the external interface in bytes, which is a path's until less is known; null where there is none
 */
export function peerFamilies(
  traffic: readonly PeerTraffic[],
  most: number,
  linkMtu: number | null,
): Family[] {
  const told = busiest(traffic, most);
  const families = SERIES.map(([figure, name, help]): Family => ({
    name,
    type: 'counter',
    help,
    samples: samplesOf(told, figure),
  }));
  return [
    ...families,
    {
      name: 'flanneld_peer_path_mtu_bytes',
      type: 'gauge',
      help: 'The largest packet of the underlay towards the peer, as far as the kernel knows.',
      samples: pathMtus(told, linkMtu),
    },
    {
      name: 'flanneld_peers_without_series',
      type: 'gauge',
      help: 'Peers that are left out of flanneld_peer_*, as the quietest of more than --metrics-peers.',
      samples: one(traffic.length - told.length),
    },
  ];
}

/** One by one, so that others get their turn between them. */
function* samplesOf(peers: readonly PeerTraffic[], figure: Figure): Generator<Sample> {
  for (const peer of peers) {
    yield { labels: { peer: formatEndpoint(peer.address, peer.port) }, value: peer[figure] };
  }
}

function* pathMtus(peers: readonly PeerTraffic[], linkMtu: number | null): Generator<Sample> {
  for (const { address, port, pathMtu } of peers) {
    const value = pathMtu ?? linkMtu;
    if (value !== null) yield { labels: { peer: formatEndpoint(address, port) }, value };
  }
}

/** Those with the most bytes, in the order of `traffic`. */
function busiest(traffic: readonly PeerTraffic[], most: number): readonly PeerTraffic[] {
  if (traffic.length <= most) return traffic;
  if (most <= 0) return [];
  const totals = Float64Array.from(traffic, ({ bytesOut, bytesIn }) => bytesOut + bytesIn);
  const threshold = totals.slice().sort()[totals.length - most] ?? 0;
  let room = most - totals.reduce((above, total) => above + Number(total > threshold), 0);
  return traffic.filter((_, i) => {
    const total = totals[i] ?? 0;
    return total > threshold || (total === threshold && room-- > 0);
  });
}
