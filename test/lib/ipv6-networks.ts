/** Network configs for each pair of families, inside the tunnel and around it. */
import type { Family } from '../../bench/daemon.js';
import type { NetConf } from './network.js';

const V4 = { Network: '10.244.0.0/16' };
const V6 = { EnableIPv6: true, IPv6Network: 'fd00:10:244::/48' };
const UDP = { Type: 'udp' };
const OVER_IPV6 = { Type: 'udp', Underlay: 'ipv6' };

/** Both families over IPv4. */
export const DUAL: NetConf = { ...V4, ...V6, Backend: UDP };
/** Both families over IPv6. */
export const DUAL_OVER_IPV6: NetConf = { ...V4, ...V6, Backend: OVER_IPV6 };
export const IPV6_ALONE: NetConf = { EnableIPv4: false, ...V6, Backend: UDP };

/** By the family inside and the one around. */
export const FAMILIES: Readonly<Record<`${Family}/${Family}`, NetConf>> = {
  '4/4': { ...V4, Backend: UDP },
  '6/4': DUAL,
  '4/6': { ...V4, Backend: OVER_IPV6 },
  '6/6': IPV6_ALONE,
};
