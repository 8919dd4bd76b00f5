import type { Dataplane } from '../dataplane.js';

/** What the udp backend asks of the dataplane. */
export type Forwarder = Pick<
  Dataplane,
  | 'tunName'
  | 'canSendIcmp'
  | 'inherited'
  | 'start'
  | 'setRoutes'
  | 'changeRoutes'
  | 'stats'
  | 'peers'
  | 'clampMss'
  | 'learnPathMtus'
  | 'takeRefusals'
  | 'rebind'
  | 'reopenDevice'
  | 'restart'
  | 'close'
>;
