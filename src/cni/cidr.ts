/** Networks of both families as text, the form in which delegates take them. */
import { Cidr4 } from '../ip.js';
import { Cidr6 } from '../ip6.js';

export type Family = 4 | 6;

/** `address/length` without host bits, in canonical spelling; undefined where it is not of the family. */
export function networkOf(cidr: string, family: Family): string | undefined {
  return (family === 4 ? Cidr4 : Cidr6).parse(cidr)?.network().toString();
}

/** Whether a network that networkOf gave holds an address, which may have a length of its own. */
export function networkContains(network: string, address: string): boolean {
  const length = network.slice(network.indexOf('/'));
  return networkOf(address.replace(/\/.*/, '') + length, network.includes(':') ? 6 : 4) === network;
}
