import { readFileSync } from 'node:fs';

/**
 * A number among the kernel's settings, or null where it has none of that name.
 * @param path below /proc/sys, with slashes: names of interfaces may have dots
 */
export function readSysctl(path: string): number | null {
  try {
    return Number(readFileSync(`/proc/sys/${path}`, 'utf8'));
  } catch {
    return null; // no such module, family or interface
  }
}
