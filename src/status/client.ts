/** Reads the report from the socket of a running flanneld. */
import { codeOf, FlannelError, messageOf } from '../errors.js';
import { getAtSocket } from '../http/unix-get.js';
import { SCHEMA } from './report.js';
import type { StatusReport } from './report.js';

const TIMEOUT_MS = 5_000;

/** @throws FlannelError: why nobody answers, and what to do. */
export async function readStatus(socketPath: string, signal?: AbortSignal): Promise<StatusReport> {
  let report: unknown;
  try {
    report = JSON.parse(await get(socketPath, '/?distances', signal));
  } catch (error) {
    throw new FlannelError(explain(socketPath, error), { cause: error });
  }
  if (typeof report !== 'object' || report === null || !('schema' in report) || report.schema !== SCHEMA) {
    throw new FlannelError(
      `the flanneld at ${socketPath} is of another version: use its own \`flanneld status\``,
    );
  }
  return report as StatusReport;
}

async function get(socketPath: string, path: string, signal?: AbortSignal): Promise<string> {
  const deadline = AbortSignal.timeout(TIMEOUT_MS);
  try {
    const either = signal === undefined ? deadline : AbortSignal.any([signal, deadline]);
    return await getAtSocket(socketPath, path, either);
  } catch (error) {
    throw deadline.aborted ? new Error(`no answer within ${TIMEOUT_MS / 1000} s`, { cause: error }) : error;
  }
}

function explain(socketPath: string, error: unknown): string {
  const known: Readonly<Record<string, string>> = {
    ENOENT: `no flanneld is running with the status socket ${socketPath}: start it, or name the socket (--status-socket, or the --subnet-file of that flanneld)`,
    ECONNREFUSED: `no flanneld answers at ${socketPath}; one that was killed has left it: start flanneld again`,
    EACCES: `no permission to open ${socketPath}: run this as the user of flanneld, mostly root`,
  };
  return (
    known[codeOf(error) ?? ''] ??
    `no status from ${socketPath}: ${messageOf(error)}; the log of that flanneld may tell why`
  );
}
