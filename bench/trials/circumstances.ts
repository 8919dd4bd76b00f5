/** The same measurements under other circumstances: peers and flows, routes, an underlay without USO, MTUs. */
import { measureTcp } from './tcp.js';
import { IMIX, OVERLOADS, overload } from './udp.js';
import { PLAIN, only } from './trial.js';
import type { Trial } from './trial.js';

const PEERS = 4;
const FLOWS = 64;
const ROUTES = 65_536;
/** Of the underlay: the least that IPv4 hosts must take, IPv6's minimum, Ethernet, jumbo frames, the most. */
const MTUS = [576, 1280, 1500, 9000, 65_520];

const crowd: readonly Trial[] = [
  { name: 'flows64', what: 'UDP packets of 64 bytes', sizes: '64' },
  { name: 'flows-imix', what: 'the packets of imix', sizes: IMIX },
].map(({ name, what, sizes }) => ({
  ...only(name, { ...PLAIN, hosts: 1 + PEERS }),
  summary: `${what}, ${FLOWS} flows to each of ${PEERS} peers, mixed packet by packet, as fast as the sender can`,
  metrics: ['pps', 'loss', 'fwd_us_per_packet', 'machine_us_per_packet'],
  quick: false,
  needs: [],
  run: (bed, seconds) => overload(bed, sizes, seconds, FLOWS),
}));

const routes: Trial = {
  name: 'routes',
  summary: `UDP packets of 64 bytes with a forwarding table of 1 entry, and of ${ROUTES.toLocaleString('en')}`,
  variants: [1, ROUTES].map((count) => ({ label: `routes${count}`, scenario: { ...PLAIN, routes: count } })),
  metrics: ['pps', 'loss', 'fwd_us_per_packet', 'machine_us_per_packet'],
  quick: false,
  needs: [],
  run: (bed, seconds) => overload(bed, '64', seconds),
};

const NO_USO = { ...PLAIN, uso: false };

const withoutUso: readonly Trial[] = [
  {
    ...only('tcp1-nouso', NO_USO),
    summary: 'tcp1 over an underlay that takes no UDP segmentation offload',
    metrics: ['gbps', 'fwd_cpu_s_per_gb', 'machine_cpu_s_per_gb'],
    quick: false,
    needs: ['ethtool', 'iperf3'],
    run: (bed, seconds) => measureTcp(bed, 1, 'forward', seconds),
  },
  ...OVERLOADS.map(({ name, sizes }): Trial => ({
    ...only(`${name}-nouso`, NO_USO),
    summary: `${name} over an underlay that takes no UDP segmentation offload`,
    metrics: [name === 'udp1400' ? 'gbps' : 'pps', 'loss', 'fwd_us_per_packet', 'machine_us_per_packet'],
    quick: false,
    needs: ['ethtool'],
    run: (bed, seconds) => overload(bed, sizes, seconds),
  })),
];

const mtus: readonly Trial[] = MTUS.map((mtu) => ({
  ...only(`mtu${mtu}`, { ...PLAIN, mtu }),
  summary: `TCP, one stream, over an underlay with an MTU of ${mtu}`,
  metrics: ['gbps', 'fwd_cpu_s_per_gb', 'machine_cpu_s_per_gb'],
  quick: false,
  needs: ['iperf3'],
  run: (bed, seconds) => measureTcp(bed, 1, 'forward', seconds),
}));

export const CIRCUMSTANCE_TRIALS: readonly Trial[] = [...crowd, routes, ...withoutUso, ...mtus];
