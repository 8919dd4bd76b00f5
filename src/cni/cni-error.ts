/** Errors of a CNI plugin: JSON on standard output and exit status 1 (CNI specification, section 2, "Error"). */
import { FlannelError } from '../errors.js';

/** The specification's codes, as far as this plugin gives them; INTERNAL is that of the Go library. */
export const CODE = {
  INCOMPATIBLE_VERSION: 1,
  UNKNOWN_CONTAINER: 3,
  INVALID_ENVIRONMENT: 4,
  IO_FAILURE: 5,
  DECODING_FAILURE: 6,
  INVALID_CONFIG: 7,
  INVALID_NETNS: 8,
  TRY_AGAIN_LATER: 11,
  /** STATUS: no container can be added. */
  NOT_AVAILABLE: 50,
  /** STATUS: the same, and what containers there are may be cut off. */
  LIMITED_CONNECTIVITY: 51,
  INTERNAL: 999,
} as const;

export class CniError extends FlannelError {
  override readonly name = 'CniError';

  constructor(
    readonly code: number,
    message: string,
    /** More words for the same reader; runtimes append them to the message. */
    readonly details = '',
  ) {
    super(message);
  }

  /** The text for standard output. */
  toJson(cniVersion: string): string {
    const { code, message: msg, details } = this;
    return JSON.stringify({ cniVersion, code, msg, ...(details === '' ? {} : { details }) }, null, 4);
  }
}
