/** Capabilities of linux/capability.h by their numbers, as far as flanneld knows what to do with them. */
import { readFileSync } from 'node:fs';

export const CAPABILITY = {
  CAP_DAC_OVERRIDE: 1,
  CAP_DAC_READ_SEARCH: 2,
  CAP_NET_BIND_SERVICE: 10,
  CAP_NET_ADMIN: 12,
  CAP_NET_RAW: 13,
  CAP_MKNOD: 27,
} as const;

/** Ports below need CAP_NET_BIND_SERVICE. */
export const FIRST_FREE_PORT = 1024;

export type Capability = keyof typeof CAPABILITY;

/** Of the main thread of this process; bit n stands for capability n. */
export function effectiveCapabilities(): bigint {
  const [, mask] = /^CapEff:\s*([\da-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return BigInt(`0x${mask ?? '0'}`);
}

export function hasCapability(set: bigint, name: Capability): boolean {
  return ((set >> BigInt(CAPABILITY[name])) & 1n) === 1n;
}

export function toSet(names: Iterable<Capability>): bigint {
  let set = 0n;
  for (const name of names) set |= 1n << BigInt(CAPABILITY[name]);
  return set;
}

/** The names of those in `set` that are known here, in the order of their numbers. */
export function namesOf(set: bigint): Capability[] {
  const names = Object.keys(CAPABILITY) as Capability[];
  return names.filter((name) => hasCapability(set, name));
}
