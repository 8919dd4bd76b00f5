import { isIPv6 } from 'node:net';
import { parseIp4 } from './ip.js';

/**
 * The canonical text of an IPv6 address without a zone (RFC 5952, but hexadecimal throughout, as Go prints every
 * address that is not IPv4-mapped), or undefined.
 */
export function canonicalIp6(text: string): string | undefined {
  const dotted = /(?<=:)\d+\.\d+\.\d+\.\d+$/.exec(text)?.[0];
  if (dotted !== undefined) {
    const v4 = parseIp4(dotted);
    if (v4 === undefined) return undefined;
    const words = `${(v4 >>> 16).toString(16)}:${(v4 & 0xffff).toString(16)}`;
    return canonicalIp6(text.slice(0, -dotted.length) + words);
  }
  if (!isIPv6(text) || text.includes('%')) return undefined;
  const [head, tail] = text.split('::').map((part) => (part === '' ? [] : part.split(':')));
  const given = [...(head ?? []), ...(tail ?? [])];
  const zeros = Array<string>(8 - given.length).fill('0');
  const words = [...(head ?? []), ...zeros, ...(tail ?? [])];
  return compress(words.map((word) => Number.parseInt(word, 16).toString(16)).join(':'));
}

/** The canonical text of `address/length` without host bits, or undefined. */
export function networkOfCidr6(text: string): string | undefined {
  const [, address = '', digits = ''] = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text) ?? [];
  const canonical = canonicalIp6(address);
  const length = Number(digits);
  if (digits === '' || canonical === undefined || length > 128) return undefined;
  const [head = '', tail] = canonical.split('::');
  const [before, after] = [head, tail ?? ''].map((part) => (part === '' ? [] : part.split(':')));
  const zeros = Array<string>(8 - (before?.length ?? 0) - (after?.length ?? 0)).fill('0');
  const words = [...(before ?? []), ...zeros, ...(after ?? [])].map((word, i) => {
    const kept = Math.min(16, Math.max(0, length - 16 * i));
    return (Number.parseInt(word, 16) & (0xffff << (16 - kept))).toString(16);
  });
  return `${compress(words.join(':'))}/${length}`;
}

/** `::` in place of the longest run of two or more zero words; the first one where several are as long. */
function compress(full: string): string {
  let at = 0;
  let longest = '';
  for (const { 0: run, index } of full.matchAll(/\b0(?::0)+\b/g)) {
    if (run.length > longest.length) [at, longest] = [index, run];
  }
  if (longest === '') return full;
  const before = full.slice(0, at).replace(/:$/, '');
  return `${before}::${full.slice(at + longest.length).replace(/^:/, '')}`;
}
