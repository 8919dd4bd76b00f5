/** What a check found. */

/**
 * `ok`: as it should be; `note`: worth knowing, nothing to mend; `warning`: works, but not as well or not always;
 * `error`: flanneld cannot start, or packets do not arrive; `skipped`: could not be seen.
 */
export type Status = 'ok' | 'note' | 'warning' | 'error' | 'skipped';

export interface Finding {
  /** The check, such as `ip-forward`; one check may have several findings. */
  readonly id: string;
  readonly status: Status;
  readonly found: string;
  /** Why it matters; null where there is nothing to mend. */
  readonly why: string | null;
  /** The command that mends it, or what to do where no command can. */
  readonly remedy: string | null;
}

export function ok(id: string, found: string): Finding {
  return { id, status: 'ok', found, why: null, remedy: null };
}

export function note(id: string, found: string, why: string | null = null): Finding {
  return { id, status: 'note', found, why, remedy: null };
}

export function warning(id: string, found: string, why: string, remedy: string): Finding {
  return { id, status: 'warning', found, why, remedy };
}

export function error(id: string, found: string, why: string, remedy: string): Finding {
  return { id, status: 'error', found, why, remedy };
}

export function skipped(id: string, found: string, remedy: string | null = null): Finding {
  return { id, status: 'skipped', found, why: null, remedy };
}
