import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { rmSync } from 'node:fs';
import type { Readable } from 'node:stream';

/** Prints each datagram as a line of JSON. Node's own datagram sockets know no unix addresses. */
const RECEIVER = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('"bound"', flush=True)
while True:
    print(json.dumps(s.recv(65536).decode()), flush=True)
`;

/** A service manager's end of NOTIFY_SOCKET. */
export class NotifySocket {
  readonly messages: string[] = [];

  private constructor(
    readonly path: string,
    private readonly child: ChildProcessByStdio<null, Readable, null>,
  ) {}

  static async open(path: string): Promise<NotifySocket> {
    const child = spawn('python3', ['-u', '-c', RECEIVER, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    const socket = new NotifySocket(path, child);
    const lines = createInterface(child.stdout);
    await once(lines, 'line');
    lines.on('line', (line) => socket.messages.push(JSON.parse(line) as string));
    return socket;
  }

  /** Reads no more: what is sent fills the queue. */
  pause(): void {
    this.child.kill('SIGSTOP');
  }

  async close(): Promise<void> {
    const closed = once(this.child, 'close');
    this.child.kill('SIGKILL');
    await closed;
    rmSync(this.path, { force: true });
  }
}
