/** What can be measured: a way to carry packets between hosts, brought up on hosts of its own. */
import type { Host } from '../topology.js';

/** The circumstances of a trial. Contenders are brought up anew for each. */
export interface Scenario {
  /** The first host sends to all others. */
  readonly hosts: number;
  /** Of the underlay, in bytes. */
  readonly mtu: number;
  /** Whether the underlay takes UDP segmentation offload. */
  readonly uso: boolean;
  /** Entries of the forwarding table. */
  readonly routes: number;
}

/** Where a contender is brought up: hosts that it has for itself, and a folder that goes with them. */
export interface Site {
  readonly hosts: readonly Host[];
  readonly folder: string;
  readonly scenario: Scenario;
}

/** A host as its peers see it through the contender. */
export interface End {
  readonly address: string;
  /** Everything in here is carried to this host: `10.95.1.0/24`. */
  readonly subnet: string;
}

/** A contender at work. */
export interface Overlay {
  /** In the order of the hosts. */
  readonly ends: readonly End[];
  /** Processes whose processor time (with that of their children) counts; null where the kernel forwards. */
  readonly forwarders: readonly number[] | null;
  /** What a reader of its figures should know. */
  readonly notes: readonly string[];
  /** Why it stopped working, or null. */
  failure(): string | null;
  down(): Promise<void>;
}

export interface Contender {
  readonly name: string;
  /** One line for the report. */
  readonly summary: string;
  /** Why it cannot run here, or cannot take part in this scenario; null when it can. */
  unavailable(scenario: Scenario): Promise<string | null>;
  /** @throws Error that says what failed; nothing is left running then. */
  up(site: Site): Promise<Overlay>;
}

/** Address and subnet of host `index` (from 0) in network 10.`net`.0.0/16. */
export function endOf(net: number, index: number): End {
  return { address: `10.${net}.${index + 1}.1`, subnet: `10.${net}.${index + 1}.0/24` };
}

/** Calls `action` for every ordered pair of different indices below `count`. */
export async function forEachPair(
  count: number,
  action: (from: number, to: number) => Promise<unknown>,
): Promise<void> {
  for (let from = 0; from < count; from++) {
    for (let to = 0; to < count; to++) if (from !== to) await action(from, to);
  }
}
