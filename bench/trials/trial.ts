/** What is done with a contender, and under which circumstances. */
import type { Overlay, Scenario } from '../contenders/contender.js';
import type { CpuFigures } from '../measure/cpu.js';
import type { Metric, Values } from '../report/metrics.js';
import type { Host } from '../topology.js';

/** A contender that stands ready on hosts of its own. */
export interface Bed {
  readonly contender: string;
  readonly hosts: readonly Host[];
  readonly overlay: Overlay;
  readonly scenario: Scenario;
}

/** What a trial measured, and how quiet the machine was meanwhile: one entry for each stretch that was watched. */
export interface Reading {
  readonly values: Values;
  readonly watched: readonly CpuFigures[];
}

/** A trial in one of its circumstances. */
export interface Variant {
  /** Stands in results as the trial's name. */
  readonly label: string;
  readonly scenario: Scenario;
}

export interface Trial {
  readonly name: string;
  readonly summary: string;
  /** Measured in the same rounds, so that they can be compared with each other. */
  readonly variants: readonly Variant[];
  /** The columns of its table; the first is the one that is drawn. */
  readonly metrics: readonly [Metric, ...Metric[]];
  /** Part of --quick. */
  readonly quick: boolean;
  /** What has to be installed. */
  readonly needs: readonly string[];
  /** Measures once, for about `seconds`. @throws Error when no figure can be had. */
  run(bed: Bed, seconds: number): Promise<Reading>;
}

/** Two hosts on Ethernet. */
export const PLAIN: Scenario = { hosts: 2, mtu: 1500, uso: true, routes: 1 };

/** A trial of one variant under its own name. */
export function only(label: string, scenario: Scenario = PLAIN): Pick<Trial, 'name' | 'variants'> {
  return { name: label, variants: [{ label, scenario }] };
}

/** The sender. */
export function firstHost({ hosts }: Bed): Host {
  const [host] = hosts;
  if (host === undefined) throw new Error('a bed without hosts');
  return host;
}

/** The second host and its address on the overlay. */
export function secondHost(bed: Bed): { readonly host: Host; readonly address: string } {
  const host = bed.hosts[1];
  const end = bed.overlay.ends[1];
  if (host === undefined || end === undefined) throw new Error('a bed without a second host');
  return { host, address: end.address };
}

/** Cost of `amount` units of work in processor time: of the forwarders (where there are any) and of the machine. */
export function costs(cpu: CpuFigures, amount: number, unit: 'gigabytes' | 'packets'): Values {
  if (amount <= 0) return {};
  if (unit === 'gigabytes') {
    return {
      ...(cpu.forwarder !== null && { fwd_cpu_s_per_gb: cpu.forwarder / amount }),
      machine_cpu_s_per_gb: cpu.machineSeconds / amount,
    };
  }
  return {
    ...(cpu.forwarder !== null && { fwd_us_per_packet: (cpu.forwarder * 1e6) / amount }),
    machine_us_per_packet: (cpu.machineSeconds * 1e6) / amount,
  };
}
