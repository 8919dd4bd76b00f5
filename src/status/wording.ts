/** Parts of the report in words, in the terminal and on the page, which loads this file as it is. */
import type { TrafficRulesReport } from './report.js';
import { formatDuration } from './units.js';

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
