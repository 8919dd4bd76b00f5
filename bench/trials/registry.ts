/** All trials, in the order of the report. */
import { CIRCUMSTANCE_TRIALS } from './circumstances.js';
import { RTT_TRIALS } from './rtt.js';
import { TCP_TRIALS } from './tcp.js';
import type { Trial } from './trial.js';
import { UDP_TRIALS } from './udp.js';

export const TRIALS: readonly Trial[] = [...TCP_TRIALS, ...UDP_TRIALS, ...RTT_TRIALS, ...CIRCUMSTANCE_TRIALS];
