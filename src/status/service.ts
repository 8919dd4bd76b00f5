/** The two ways to the report: the unix socket, and the page on the health port. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { statusSocketPath } from '../socket-paths.js';
import type { DaemonState } from '../daemon-state.js';
import { sendPageFile } from './page.js';
import { PeerProbe } from './probe.js';
import { sendStatus } from './serve.js';
import { StatusSocket } from './socket.js';

const PAGE = '/status/';

export class StatusService {
  private readonly probe = new PeerProbe();
  private readonly socket: StatusSocket | null;

  constructor(private readonly state: DaemonState) {
    const path = statusSocketPath(state.options);
    const answer = (request: IncomingMessage, response: ServerResponse) =>
      sendStatus(state, this.probe, request, response);
    this.socket = path === null ? null : new StatusSocket(path, answer, () => forwards(state));
  }

  async open(): Promise<void> {
    await this.socket?.open();
  }

  /** Answers what belongs to the page where it is wanted; else returns false. */
  async answerPage(request: IncomingMessage, response: ServerResponse): Promise<boolean> {
    const [path = ''] = (request.url ?? '').split('?', 1);
    if (!this.state.options.statusPage) return false;
    if (path === PAGE.slice(0, -1)) response.writeHead(308, { Location: PAGE }).end();
    else if (path === `${PAGE}status.json`) await sendStatus(this.state, this.probe, request, response);
    else return path.startsWith(PAGE) && sendPageFile(path.slice(PAGE.length), response);
    return true;
  }

  close(): void {
    this.socket?.close();
    this.probe.close();
  }
}

/** False for a process that has yet to take over from another one, or has handed over. */
function forwards({ phase, backend }: DaemonState): boolean {
  const standing = backend?.dataplane?.standing ?? 'owner';
  return phase === 'running' && standing === 'owner';
}
