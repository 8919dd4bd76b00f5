/** Networks of both families as text, the form in which delegates take them. */
import { Cidr4 } from '../ip.js';
import { canonicalIp6 } from '../ip6.js';

export type Family = 4 | 6;

/** `address/length` without host bits, in canonical spelling; undefined where it is not of the family. */
export function networkOf(cidr: string, family: Family): string | undefined {
  return family === 4 ? Cidr4.parse(cidr)?.network().toString() : networkOf6(cidr);
}

/** Whether a network that networkOf gave holds an address, which may have a length of its own. */
export function networkContains(network: string, address: string): boolean {
  const length = network.slice(network.indexOf('/'));
  return networkOf(address.replace(/\/.*/, '') + length, network.includes(':') ? 6 : 4) === network;
}

function networkOf6(cidr: string): string | undefined {
  const [, address = '', digits = ''] = /^([^/]*)\/(0|[1-9]\d{0,2})$/.exec(cidr) ?? [];
  const canonical = canonicalIp6(address);
  const length = Number(digits);
  if (canonical === undefined || digits === '' || length > 128) return undefined;
  const masked = wordsOf(canonical).map((word, i) => word & maskOfWord(length - 16 * i));
  return `${canonicalIp6(masked.map((word) => word.toString(16)).join(':')) ?? ''}/${length}`;
}

/** The mask of a 16-bit word of which so many leading bits count. */
function maskOfWord(bits: number): number {
  return (0xffff << Math.min(16, Math.max(0, 16 - bits))) & 0xffff;
}

function wordsOf(canonical: string): number[] {
  const [head = [], tail = []] = canonical
    .split('::')
    .map((part) => (part === '' ? [] : part.split(':').map((word) => Number.parseInt(word, 16))));
  return [...head, ...Array<number>(8 - head.length - tail.length).fill(0), ...tail];
}
