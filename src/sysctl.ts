import { existsSync, readFileSync, writeFileSync } from 'node:fs';

/**
 * A number among the kernel's settings, or null where it has none of that name.
 * @param path below /proc/sys, with slashes: names of interfaces may have dots
 */
export function readSysctl(path: string): number | null {
  const text = readSysctlText(path);
  return text === null ? null : Number(text);
}

/** The same of a setting that is no number. */
export function readSysctlText(path: string): string | null {
  try {
    return readFileSync(`/proc/sys/${path}`, 'utf8').trim();
  } catch {
    return null; // no such module, family or interface
  }
}

/** @param path see readSysctl @throws Error of node:fs, such as where /proc/sys is read-only */
export function writeSysctl(path: string, value: number): void {
  writeFileSync(`/proc/sys/${path}`, String(value));
}

/** Whether the kernel has IPv6 at all: it is built without, or told at boot to do without (ipv6.disable=1). */
export function hasIpv6(): boolean {
  return existsSync('/proc/sys/net/ipv6');
}
