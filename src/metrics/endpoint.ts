import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { DaemonState } from '../daemon-state.js';
import { daemonFamilies } from './daemon.js';
import { backendFamilies } from './dataplane.js';
import type { Family } from './family.js';
import { peerFamilies } from './peers.js';
import { CONTENT_TYPE, expose } from './registry.js';

/** Everything that is told of a daemon. */
export function* families(state: DaemonState): Generator<Family> {
  yield* daemonFamilies(state);
  const { backend } = state;
  if (backend === null) return;
  yield* backendFamilies(backend);
  const linkMtu = state.whereabouts?.external.mtu ?? null;
  yield* peerFamilies(state.peerTraffic, state.options.metricsPeers, linkMtu);
}

/** Writes all metrics, with pauses for whatever else the daemon has to do. @throws when the client goes away. */
export async function sendMetrics(state: DaemonState, response: ServerResponse): Promise<void> {
  response.setHeader('Content-Type', CONTENT_TYPE);
  await pipeline(Readable.from(piecemeal(expose(families(state)))), response);
}

async function* piecemeal(pieces: AsyncIterable<string>): AsyncGenerator<string> {
  for await (const piece of pieces) {
    yield piece;
    await new Promise(setImmediate);
  }
}
