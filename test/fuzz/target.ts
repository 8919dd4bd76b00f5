import type { IRawProperty } from 'fast-check';

/** Something that garbage is fed to. */
export interface Target {
  readonly name: string;
  /** Fails, or throws, for an input that is treated wrongly. */
  readonly property: IRawProperty<unknown>;
}
