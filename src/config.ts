import type { Cidr4, Ip4 } from './ip.js';

/** The validated network config, defaults filled in. */
export interface NetworkConfig {
  readonly enableIPv4: boolean;
  readonly enableIPv6: boolean;
  readonly enableNFTables: boolean;
  /** In network form. */
  readonly network: Cidr4;
  readonly subnetMin: Ip4;
  readonly subnetMax: Ip4;
  readonly subnetLen: number;
  /** Lower-cased; `udp` when the config has no Backend. */
  readonly backendType: string;
  /** The Backend object's JSON text as written, or `{}`. */
  readonly backend: string;
}
