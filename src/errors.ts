/**
 * Errors that an operator reads. One line: the cause, then the remedy. Whether a caller may try again is a
 * property of the error, so no caller has to guess from its text.
 */
export class FlannelError extends Error {
  /** The same call may succeed later without anybody's help. */
  readonly retryable: boolean = false;
  override readonly name: string = 'FlannelError';
}

/** A flag or environment variable that cannot be used; the text says what to write instead. */
export class UsageError extends FlannelError {
  override readonly name = 'UsageError';
}

/** The network config is missing or wrong; an operator can mend it while the daemon waits. */
export class ConfigError extends FlannelError {
  override readonly retryable = true;
  override readonly name = 'ConfigError';
}

/** The store did not answer, or answered with an error that passes. */
export class StoreUnavailableError extends FlannelError {
  override readonly retryable = true;
  override readonly name = 'StoreUnavailableError';
}

/** The lease is not ours (any more), or none can be had. */
export class LeaseError extends FlannelError {
  override readonly name = 'LeaseError';
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The errno-style code of an error ('ENOENT', …), or undefined. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string') {
    return error.code;
  }
  return undefined;
}
