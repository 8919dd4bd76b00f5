import { status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import { StoreUnavailableError } from '../../errors.js';

/** A call that etcd refused or never answered. */
export class EtcdError extends StoreUnavailableError {
  constructor(
    readonly status: status,
    message: string,
    /** A write may have reached the store although its answer did not reach us. */
    readonly mayHaveApplied: boolean,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** Words the failure of one call to the endpoint `name`. */
  static from(error: ServiceError, name: string): EtcdError {
    return new EtcdError(error.code, `etcd at ${name}: ${describe(error)}`, isMemberTrouble(error.code), {
      cause: error,
    });
  }
}

/** The member, or the way to it, failed: another member may well answer. */
export function isMemberTrouble(code: status): boolean {
  return (
    code === status.UNAVAILABLE ||
    code === status.DEADLINE_EXCEEDED ||
    code === status.INTERNAL ||
    code === status.UNKNOWN
  );
}

/** The token has run out, was lost with the member that issued it, or is older than a change of the user. */
export function wantsLogin(error: ServiceError): boolean {
  return error.code === status.UNAUTHENTICATED || saysLogIn(error.details);
}

/** The same for the words alone, in which a watch is refused. */
export function saysLogIn(words: string): boolean {
  return /user name is empty|revision of auth store is old|invalid auth token/.test(words);
}

export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error;
}

function describe(error: ServiceError): string {
  // grpc-js adds the time of the last attempt and notes about its resolver: different in each repetition.
  const cause = error.details
    .replace(/ \(\d{4}-\d\d-\d\dT[^)]*\)/g, '')
    .replace(/\.? Resolution note:.*$/s, '')
    .replace(/^No connection established\. Last error: (Error: )?/, 'no connection: ');
  if (error.code === status.DEADLINE_EXCEEDED) return 'no answer in time';
  if (error.code === status.PERMISSION_DENIED) {
    return `${cause}; grant the etcd user readwrite on the prefix of the network`;
  }
  return cause === '' ? `status ${error.code}` : cause;
}
