import { Cidr4, parseIp4 } from '../ip.js';
import { canonicalIp6, Cidr6 } from '../ip6.js';
import type { LeaseSubnet } from './lease.js';

const KEY = /^(\d+\.\d+\.\d+\.\d+)-(\d+)(?:&([a-f\d:]+)-(\d+))?$/;

/** What stands for the IPv4 subnet in the name of an entry that has none, as stock flannel writes it. */
const NO_V4 = new Cidr4(0, 0);

/**
 * The name of a subnet's entry in a store: `10.5.1.0-24`, `10.5.1.0-24&fd00:5:1::-64` when dual-stack, or
 * `0.0.0.0-0&fd00:5:1::-64` when IPv6 only.
 */
export function formatSubnetKey({ v4, v6 }: LeaseSubnet): string {
  const name = (v4 ?? NO_V4).toString('-');
  return v6 === null ? name : `${name}&${v6.toString('-')}`;
}

/**
 * The subnet that an entry's name stands for, or undefined when it names none. A path may precede the name.
 *
 * `formatSubnetKey` gives back exactly the name that was read, so that a renewal or a delete meets the same
 * entry. Two things follow: host bits are kept, since nobody rejects them (`10.5.1.7-24` is an entry of its own;
 * use `v4.network()` for the range it claims), and other spellings of a name (`-024`, `fd00:0:0::`) are none.
 */
export function parseSubnetKey(key: string): LeaseSubnet | undefined {
  const name = key.slice(key.lastIndexOf('/') + 1);
  const match = KEY.exec(name);
  if (match === null) return undefined;
  const [, v4Text = '', v4Length, v6Text, v6Length] = match;
  const ip = parseIp4(v4Text);
  // flannel reads the lengths into 5 and 7 bits: a single-address subnet is no lease in either family.
  if (ip === undefined || Number(v4Length) > 31) return undefined;
  let v6: Cidr6 | null = null;
  if (v6Text !== undefined) {
    const address = canonicalIp6(v6Text);
    if (address === undefined || Number(v6Length) > 127) return undefined;
    v6 = new Cidr6(address, Number(v6Length));
  }
  const v4 = new Cidr4(ip, Number(v4Length));
  const subnet = { v4: v6 !== null && v4.equals(NO_V4) ? null : v4, v6 };
  return formatSubnetKey(subnet) === name ? subnet : undefined;
}
