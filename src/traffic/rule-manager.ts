import { FlannelError, messageOf } from '../errors.js';
import type { RulesetChange } from './ruleset-events.js';
import type { OverlayFamily, RuleChoice } from './rules.js';

/** The rules were seen to be incomplete, and could not be completed. */
export class IncompleteRules extends FlannelError {
  override readonly name = 'IncompleteRules';

  /** @param damages what is wrong with them, in words */
  constructor(damages: readonly string[], cause: unknown) {
    super(`${damages.join('; ')}, and stays so: ${messageOf(cause)}`, { cause });
  }
}

/** A way to put the rules into the kernel. */
export interface RuleManager {
  readonly name: 'iptables' | 'nftables';

  /** The kernel announces changes of what this manager makes; otherwise only looking tells. */
  readonly announced: boolean;

  /** Says what the rules are about from now on; ensure() then replaces those of any other network. */
  want(overlay: readonly OverlayFamily[]): void;

  /**
   * Makes the rules complete and in order, in one step for each table, and touches nothing where they are.
   * @returns what was wrong, in words.
   * @throws IncompleteRules where they cannot be written, else FlannelError, which says nothing about the rules; they
   * are as they were then, as far as whole tables go.
   */
  ensure(): Promise<string[]>;

  /** Whether an announced change may have been one of this manager's rules. */
  concerns(change: RulesetChange): boolean;
}

/**
 * @param versions the address families that rules are wanted for
 * @throws FlannelError with the remedy when a program is missing.
 */
export type RuleManagerFactory = (
  versions: readonly OverlayFamily['version'][],
  choice: RuleChoice,
) => Promise<RuleManager>;
