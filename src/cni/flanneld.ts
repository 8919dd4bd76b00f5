/** What the flanneld of this host says about itself, so that an error can name the real cause. */
import { extname } from 'node:path';
import { codeOf } from '../errors.js';

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

/** Where the flanneld that writes this subnet file tells its status. */
export function statusSocketPath(subnetFile: string): string {
  return `${subnetFile.slice(0, subnetFile.length - extname(subnetFile).length)}.status.sock`;
}

/** Never throws: without an answer the error that is at hand has to do. */
export async function askFlanneld(subnetFile: string): Promise<Flanneld> {
  try {
    return understand(await answerOf(statusSocketPath(subnetFile)));
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

async function answerOf(socketPath: string): Promise<string> {
  // Only where it is needed: no pod that can be added waits for this module.
  const { get } = await import('node:http');
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(ANSWER_MS);
    const request = get({ socketPath, path: REQUEST, agent: false, signal }, (response) => {
      let answer = '';
      response.setEncoding('utf8').on('data', (text: string) => {
        answer += text;
        if (answer.length > MAX_ANSWER) request.destroy(new Error('endless answer'));
      });
      response.once('error', reject);
      response.once('end', () => {
        resolve(answer);
      });
    });
    request.once('error', reject);
  });
}
