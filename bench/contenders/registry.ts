/** All contenders that the harness brings along, in the order of the report. */
import { cLoop } from './c-loop.js';
import type { Contender } from './contender.js';
import { TIERS, flannel } from './flannel.js';
import { bare, vxlan } from './kernel.js';
import { wireguardGo } from './wireguard.js';

export const CONTENDERS: readonly Contender[] = [bare, vxlan, cLoop, ...TIERS.map(flannel), wireguardGo];
