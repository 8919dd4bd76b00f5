import type { Daemon } from '../../bench/daemon.js';

const CHANGE = /Subnet (added|removed): (\S+)(?: via (\S+))?/g;

/** The peers of a daemon as its log has announced them. */
export class PeerTable {
  private readonly peers = new Map<string, string>();
  /** So much of the log is in. */
  private read = 0;

  constructor(private readonly daemon: Daemon) {}

  /** `<subnet> via <public IP>` of each, sorted. */
  rows(): string[] {
    this.takeIn();
    return [...this.peers].map(([subnet, via]) => `${subnet} via ${via}`).sort();
  }

  /** The public IP of the host that has this subnet. */
  via(subnet: string): string | undefined {
    this.takeIn();
    return this.peers.get(subnet);
  }

  /** Takes in the daemon's log and drops it, for one that would become too long. */
  digest(): void {
    this.takeIn();
    this.daemon.log = this.daemon.log.slice(this.read);
    this.read = 0;
  }

  private takeIn(): void {
    const { log } = this.daemon;
    const end = log.lastIndexOf('\n') + 1;
    for (const [, change, subnet = '', via = ''] of log.slice(this.read, end).matchAll(CHANGE)) {
      if (change === 'added') this.peers.set(subnet, via);
      else this.peers.delete(subnet);
    }
    this.read = end;
  }
}

/** A subnet entry of a store. */
export interface SubnetEntry {
  /** `10.244.7.0/24` */
  readonly subnet: string;
  readonly publicIp: string;
}

/** Reads an entry by its key, which ends in `10.244.7.0-24`, and its value. */
export function subnetEntry(key: string, value: string): SubnetEntry {
  const { PublicIP: publicIp } = JSON.parse(value) as { PublicIP: string };
  return { subnet: key.slice(key.lastIndexOf('/') + 1).replace('-', '/'), publicIp };
}

/** The rows that the table of the daemon at `publicIp` should have. */
export function rowsFor(publicIp: string, entries: readonly SubnetEntry[]): string[] {
  return entries
    .filter((entry) => entry.publicIp !== publicIp)
    .map((entry) => `${entry.subnet} via ${entry.publicIp}`)
    .sort();
}
