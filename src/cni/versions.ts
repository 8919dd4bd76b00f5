/** Versions of the CNI specification. */
import { CODE, CniError } from './cni-error.js';

export const SUPPORTED = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'];
export const CURRENT = '1.1.0';

/** Since when a command may be used; the others are as old as CNI. */
const SINCE: Readonly<Record<string, string>> = { CHECK: '0.4.0', STATUS: '1.1.0', GC: '1.1.0' };

/** @throws CniError when a config of this version cannot be used, or not with this command. */
export function checkVersion(version: string, command: string): void {
  const index = SUPPORTED.indexOf(version);
  if (index < 0) {
    const list = SUPPORTED.map((name) => JSON.stringify(name)).join(' ');
    throw new CniError(
      CODE.INCOMPATIBLE_VERSION,
      'incompatible CNI versions',
      `config is ${JSON.stringify(version)}, plugin supports [${list}]`,
    );
  }
  const since = SINCE[command];
  if (since !== undefined && index < SUPPORTED.indexOf(since)) {
    throw new CniError(
      CODE.INCOMPATIBLE_VERSION,
      `config version does not allow ${command}`,
      `cniVersion is ${version}, and ${command} needs ${since}`,
    );
  }
}
