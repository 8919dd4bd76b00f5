/** What the flanneld of this host says about itself, so that an error can name the real cause. */
import { codeOf } from '../errors.js';
import { defaultStatusSocketPath } from '../socket-paths.js';

/**
 * ready: it carries packets. waiting: it says what for. down: its socket is there, but nobody listens. unknown: there
 * is no such socket, as with a stock flanneld, or nothing that can be understood came out of it.
 */
export type Flanneld =
  { readonly state: 'ready' | 'down' | 'unknown' } | { readonly state: 'waiting'; readonly reason: string };

/** A container waits for the answer. */
const ANSWER_MS = 1000;
/** All but the peers, of which there may be thousands. */
const REQUEST = '/?peers=none';
const MAX_ANSWER = 1 << 20;

/** Never throws: without an answer the error that is at hand has to do. */
export async function askFlanneld(subnetFile: string): Promise<Flanneld> {
  try {
    // Only where it is needed: no pod that can be added waits for node:http.
    const { getAtSocket } = await import('../http/unix-get.js');
    const socketPath = defaultStatusSocketPath(subnetFile);
    return understand(await getAtSocket(socketPath, REQUEST, AbortSignal.timeout(ANSWER_MS), MAX_ANSWER));
  } catch (error) {
    return { state: codeOf(error) === 'ECONNREFUSED' ? 'down' : 'unknown' };
  }
}

/** In words, for the details of an error; empty where there is nothing to say. */
export function inWords(flanneld: Flanneld): string {
  if (flanneld.state === 'waiting') return `flanneld says: ${flanneld.reason}`;
  return flanneld.state === 'down' ? 'flanneld is not running on this node; see its log' : '';
}

function understand(text: string): Flanneld {
  const status = JSON.parse(text) as { ready?: unknown; reason?: unknown } | null;
  if (typeof status?.ready !== 'boolean') return { state: 'unknown' };
  if (status.ready) return { state: 'ready' };
  return { state: 'waiting', reason: typeof status.reason === 'string' ? status.reason : 'not ready yet' };
}
