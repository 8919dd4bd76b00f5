/** The families of a network, as its config has them. */
import type { Cidr } from './address.js';
import type { NetworkConfig } from './config.js';

/** The whole overlay: a prefix for each family that it has, IPv4 first. */
export function overlayNetworks({ enableIPv4, enableIPv6, network, ipv6Network }: NetworkConfig): Cidr[] {
  return [...(enableIPv4 ? [network] : []), ...(enableIPv6 && ipv6Network !== null ? [ipv6Network] : [])];
}
