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
  | 'learnPathMtus'
  | 'takeRefusals'
  | 'rebind'
  | 'reopenDevice'
  | 'restart'
  | 'close'
>;
