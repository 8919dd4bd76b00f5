/** Which samples the machine was not quiet enough for. */

/** What the machine did while a sample was taken. Shares are of all processor time, 0 to 1. */
export interface MachineFigures {
  /** Busy with anything; without the benchmark's own idle spinner. */
  readonly cpu: number;
  /** Taken by the hypervisor. */
  readonly steal: number;
  /** Used by processes that are no part of the benchmark. */
  readonly foreign: number;
  /** How far the wall clock moved away from the monotonic one, in seconds. */
  readonly clockJump: number;
}

/** From where on a sample is disturbed. */
export interface Limits {
  readonly steal: number;
  readonly foreign: number;
  readonly clockJump: number;
}

export const DEFAULT_LIMITS: Limits = { steal: 0.05, foreign: 0.1, clockJump: 0.1 };

/** Why a sample is disturbed, in words; empty when it is not. */
export function disturbances(machine: MachineFigures, limits: Limits): string[] {
  const percent = (share: number) => `${(share * 100).toFixed(0)} %`;
  const reasons: string[] = [];
  if (machine.steal > limits.steal) reasons.push(`${percent(machine.steal)} stolen by the hypervisor`);
  if (machine.foreign > limits.foreign) reasons.push(`${percent(machine.foreign)} used by other processes`);
  if (Math.abs(machine.clockJump) > limits.clockJump) {
    reasons.push(`the clock jumped by ${machine.clockJump.toFixed(2)} s`);
  }
  return reasons;
}
