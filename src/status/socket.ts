/**
 * The unix socket that tells the status. Its name goes from process to process with the dataplane: a successor takes it
 * once it forwards, and answers from its own start only where nobody else does.
 */
import { chmodSync, renameSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { prepareSocketFolder } from '../control-socket.js';
import { messageOf } from '../errors.js';
import { log } from '../log.js';
import { sleep } from '../retry.js';

/** The name may be removed, or become free, at any time. */
const LOOK_MS = 1_000;
const CLIENT_MS = 10_000;
const MODE = 0o600;

type Answer = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

export class StatusSocket {
  private server: Server | null = null;
  /** Of the socket in the file system; null while this process has none. */
  private inode: number | null = null;
  private claimed = false;
  private complaint: string | null = null;
  private readonly ended = new AbortController();

  /**
   * @param forwards whether this process moves the packets, so that the name is its own
   */
  constructor(
    private readonly path: string,
    private readonly answer: Answer,
    private readonly forwards: () => boolean,
  ) {}

  /** Serves as soon as the name is to be had, until close(). What goes wrong is a warning. */
  async open(): Promise<void> {
    await this.claim();
    void this.keep();
  }

  /** Removes the socket unless its name has passed to another process. Idempotent. */
  close(): void {
    this.ended.abort();
    if (this.isOurs()) rmSync(this.path, { force: true });
    this.leave();
  }

  private async keep(): Promise<void> {
    while (await sleep(LOOK_MS, this.ended.signal)) await this.claim();
  }

  private async claim(): Promise<void> {
    if (this.isOurs()) return;
    // Once only: two that both think they forward must not take the name from each other for ever.
    const mine = !this.claimed && this.forwards();
    if (!mine && (await isAnswered(this.path))) return;
    if (this.ended.signal.aborted) return;
    try {
      await this.bind();
      this.claimed ||= mine;
      this.complaint = null;
    } catch (error) {
      const text = messageOf(error);
      if (text !== this.complaint) log.warning(`no status socket ${this.path} (${text}); trying on`);
      this.complaint = text;
    }
  }

  /** Under a name of its own first, so that there is a socket at every moment, and never one that others may open. */
  private async bind(): Promise<void> {
    this.leave();
    prepareSocketFolder(this.path);
    const own = `${this.path}.${process.pid}`;
    prepareSocketFolder(own);
    rmSync(own, { force: true });
    const server = createServer({ requestTimeout: CLIENT_MS }, (request, response) => {
      request.resume();
      this.answer(request, response).catch((error: unknown) => {
        log.error(`cannot tell the status: ${messageOf(error)}`);
        response.destroy();
      });
    });
    server.setTimeout(CLIENT_MS);
    const umask = process.umask(0o777 & ~MODE);
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(own, () => {
          server.off('error', reject);
          resolve();
        });
        process.umask(umask); // bind(2) has taken place
      });
    } finally {
      process.umask(umask);
    }
    chmodSync(own, MODE);
    renameSync(own, this.path);
    this.server = server;
    this.inode = inodeOf(this.path);
  }

  private isOurs(): boolean {
    return this.inode !== null && inodeOf(this.path) === this.inode;
  }

  private leave(): void {
    this.server?.close();
    this.server?.closeAllConnections();
    this.server = null;
    this.inode = null;
  }
}

function inodeOf(path: string): number | null {
  try {
    return statSync(path).ino;
  } catch {
    return null; // bind() has the words for what is wrong
  }
}

/** Whether a process listens there. */
function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}
