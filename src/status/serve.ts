/** The report over HTTP: on the status socket, and behind the page. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { DaemonState } from '../daemon-state.js';
import { collectStatus } from './collect.js';
import type { PeerProbe } from './probe.js';

/**
 * Answers with the report. `?peers=none` leaves the list of peers out, `?distances` has round-trip times measured
 * where the last ones are too old.
 */
export async function sendStatus(
  state: DaemonState,
  probe: PeerProbe,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const query = new URLSearchParams((request.url ?? '').split('?', 2)[1]);
  const wanted = { peers: query.get('peers') !== 'none', distances: query.has('distances') };
  const body = `${JSON.stringify(await collectStatus(state, probe, wanted))}\n`;
  const headers = {
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
  };
  response.writeHead(200, headers).end(request.method === 'HEAD' ? undefined : body);
}
