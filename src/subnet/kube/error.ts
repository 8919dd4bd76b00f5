import { messageOf, StoreUnavailableError } from '../../errors.js';
import { fieldsOf, textOf } from './json.js';

/** The API server cannot be reached, or answered with an error. */
export class KubeError extends StoreUnavailableError {
  /**
   * @param status of HTTP; null where there was no answer
   * @param retryAfterMs how long the server wants to be left alone; null where it did not say
   */
  constructor(
    message: string,
    readonly status: number | null = null,
    readonly retryAfterMs: number | null = null,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** What happened after the version asked for is not known any more, or a list was too long under way. */
  get isGone(): boolean {
    return this.status === 410;
  }
}

const REMEDIES: Readonly<Record<number, string>> = {
  401: 'check the token or the client certificate that flanneld uses',
  403: 'grant it the ClusterRole flannel: pods get; nodes get, list, watch; nodes/status patch',
};

/**
 * The error that a `Status` object of the API server means.
 * @param status of HTTP, for a body that is no `Status`
 * @param retryAfter the header, in seconds or as a date
 */
export function statusError(
  text: string,
  status: number | null,
  retryAfter: string | null,
  what: string,
): KubeError {
  const { message, reason, code, details } = fieldsOf(parsed(text));
  const number = typeof code === 'number' ? code : status;
  const said = textOf(message) || textOf(reason) || text.slice(0, 200).trim() || 'no reason given';
  const remedy = number === null ? undefined : REMEDIES[number];
  const seconds = fieldsOf(details).retryAfterSeconds;
  return new KubeError(
    `${what}: ${oneLine(said)} (${number ?? 'no status'})${remedy === undefined ? '' : `; ${remedy}`}`,
    number,
    delayOf(retryAfter) ?? (typeof seconds === 'number' ? seconds * 1000 : null),
  );
}

/** The error for a connection that could not be made, or broke. */
export function connectionError(error: unknown, what: string): KubeError {
  return error instanceof KubeError
    ? error
    : new KubeError(`${what}: ${oneLine(messageOf(error))}`, null, null, { cause: error });
}

/** RFC 9110, section 10.2.3: seconds, or a date. */
function delayOf(retryAfter: string | null): number | null {
  if (retryAfter === null) return null;
  const ms = /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : Date.parse(retryAfter) - Date.now();
  return Number.isNaN(ms) ? null : Math.max(0, ms);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, '; ').trim();
}
