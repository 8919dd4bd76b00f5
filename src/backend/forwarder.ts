import { Dataplane } from '../dataplane.js';
import { FlannelError } from '../errors.js';
import type { Ip4 } from '../ip.js';

/** What the udp backend asks of the dataplane. */
export interface Forwarder extends Pick<
  Dataplane,
  'tunName' | 'canSendIcmp' | 'start' | 'setRoutes' | 'stats' | 'close'
> {
  /** Moves every socket to another local address under running traffic. @throws FlannelError; nothing has moved then. */
  rebind(address: Ip4, port: number): void;

  /** Opens a new device in place of one that was deleted, with its name and nothing else of it. @throws FlannelError */
  reopenDevice(): void;
}

/** A dataplane that stays as it was opened. */
export class FixedDataplane extends Dataplane implements Forwarder {
  rebind(): never {
    throw new FlannelError('the dataplane cannot move its sockets yet: restart flanneld');
  }
  reopenDevice(): never {
    throw new FlannelError('the dataplane cannot open another device yet: restart flanneld');
  }
}
