import type { Route } from '../dataplane.js';
import { messageOf } from '../errors.js';
import { formatIp4 } from '../ip.js';
import { ownPortOf } from '../lease/identity.js';
import type { Lease } from '../lease/lease.js';
import { log } from '../log.js';

/** Where the packets for each peer's subnet are sent. Remembers what it has complained about. */
export class PeerRoutes {
  private complaints = new Set<string>();

  /** @param networkPort of peers that announce none of their own */
  constructor(private readonly networkPort: number) {}

  /** A lease that makes no sense is a warning, once as long as it stays so. */
  of(peers: readonly Lease[]): Route[] {
    const before = this.complaints;
    this.complaints = new Set();
    const complain = (text: string) => {
      if (!before.has(text)) log.warning(text);
      this.complaints.add(text);
    };
    const routes: Route[] = [];
    for (const lease of peers) {
      const { subnet, attrs } = lease;
      if (attrs.publicIp === 0) {
        complain(`ignoring the lease ${subnet.v4.toString()}: its public IP is ${formatIp4(attrs.publicIp)}`);
      } else {
        const port = this.portOf(lease, complain);
        routes.push({ destination: subnet.v4, address: attrs.publicIp, port });
      }
    }
    return routes;
  }

  private portOf({ subnet, attrs }: Lease, complain: (text: string) => void): number {
    try {
      return ownPortOf(attrs) ?? this.networkPort;
    } catch (error) {
      complain(
        `the lease ${subnet.v4.toString()} has no usable port (${messageOf(error)}); using ${this.networkPort}`,
      );
      return this.networkPort;
    }
  }
}
