/** Parts of the report in words, in the terminal and on the page, which loads this file as it is. */
import type { TrafficRulesReport } from './report.js';
import { formatDuration } from './units.js';

/** `192.0.2.1:8285`, `[2001:db8::1]:8285`; the address alone where there is no port. */
export function endpointText(ip: string, port: number | null): string {
  if (port === null) return ip;
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** @param at when the report was made */
export function rulesText(rules: TrafficRulesReport, at: string): string {
  const { manager, incompleteSince, repairs, lastRepair, lastError } = rules;
  if (manager === null) return 'none wanted';
  const since = (time: string) => formatDuration((Date.parse(at) - Date.parse(time)) / 1000);
  const error = lastError === null ? '' : `: ${lastError}`;
  if (incompleteSince !== null) return `${manager}, incomplete for ${since(incompleteSince)}${error}`;
  if (lastError !== null) return `${manager}, cannot be looked at${error}`;
  const times = repairs === 1 ? 'once' : `${repairs} times`;
  const last = lastRepair === null ? '' : `, repaired ${times}, last ${since(lastRepair)} ago`;
  return `${manager}, complete${last}`;
}
