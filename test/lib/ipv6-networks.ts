/** Network configs with IPv6 in all places that it can have. */
import type { Family } from '../../bench/daemon.js';
import type { NetConf } from './network.js';

const V4 = { Network: '10.244.0.0/16' };
const V6 = { EnableIPv6: true, IPv6Network: 'fd00:10:244::/48' };
const UDP = { Type: 'udp' };

interface NetworkOfFamilies {
  readonly config: NetConf;
  readonly inner: readonly Family[];
  readonly outer: Family;
}

/** Both families over IPv4. */
export const DUAL: NetConf = { ...V4, ...V6, Backend: UDP };

export const NETWORKS: Readonly<Record<string, NetworkOfFamilies>> = {
  'both families over IPv4': { config: DUAL, inner: [4, 6], outer: 4 },
  'both families over IPv6': {
    config: { ...DUAL, Backend: { ...UDP, Underlay: 'ipv6' } },
    inner: [4, 6],
    outer: 6,
  },
  'IPv6 alone': { config: { EnableIPv4: false, ...V6, Backend: UDP }, inner: [6], outer: 6 },
  'IPv4 over IPv6': { config: { ...V4, Backend: { ...UDP, Underlay: 'ipv6' } }, inner: [4], outer: 6 },
};
