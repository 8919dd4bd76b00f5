/** A real kube-apiserver over a real etcd: a cluster as far as nodes, permissions and tokens go. */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { Etcd } from './etcd.js';
import { eventually } from './eventually.js';
import { freePort } from './tcp-proxy.js';

const run = promisify(execFile);
const BUILD = 'test/kube/build-apiserver.sh';
const ADMIN_TOKEN = 'all-may-be-done-with-this';
const ISSUER = 'https://kubernetes.default.svc';

/** A JSON object of the API. */
export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly [member: string]: unknown;
  };
  readonly [member: string]: unknown;
}

/** The path of the program; builds it where there is none yet. @throws Error where that cannot be done. */
export async function findApiServer(): Promise<string> {
  const { stdout } = await run('sh', [BUILD], { maxBuffer: 64 << 20 });
  return stdout.trim();
}

/** An answer that is an error. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    body: string,
  ) {
    super(`${status}: ${body}`);
  }
}

export class KubeApiServer {
  private child: ChildProcess | null = null;
  private agent = new Agent({ keepAlive: true });

  private constructor(
    private readonly program: string,
    readonly folder: string,
    readonly etcd: Etcd,
    readonly address: string,
    readonly port: number,
    /** The certificate that it has signed itself, PEM. */
    readonly ca: string,
  ) {}

  /** Resolves when it answers. */
  static async start(address: string): Promise<KubeApiServer> {
    const program = await findApiServer();
    const folder = await mkdtemp(join(tmpdir(), 'kube-test-'));
    const file = (name: string) => join(folder, name);
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    await run('openssl', [
      ...['req', '-x509', ...key, '-days', '2', '-subj', '/CN=kube-apiserver'],
      ...['-addext', `subjectAltName=IP:${address}`, '-keyout', file('tls.key'), '-out', file('tls.crt')],
    ]);
    await run('openssl', ['genrsa', '-out', file('accounts.key'), '2048']);
    await writeFile(file('tokens.csv'), `${ADMIN_TOKEN},admin,admin,"system:masters"\n`);
    const etcd = await Etcd.start();
    const ca = await readFile(file('tls.crt'), 'utf8');
    const server = new KubeApiServer(program, folder, etcd, address, await freePort(), ca);
    try {
      await server.restart();
      return server;
    } catch (error) {
      await server.close();
      throw error;
    }
  }

  get url(): string {
    return `https://${this.address}:${this.port}`;
  }

  get running(): boolean {
    return this.child !== null;
  }

  /** Starts it on what etcd holds; resolves when it is ready. */
  async restart(): Promise<void> {
    const file = (name: string) => join(this.folder, name);
    this.child = spawn(
      this.program,
      [
        `--etcd-servers=${this.etcd.endpoint}`,
        `--bind-address=${this.address}`,
        `--advertise-address=${this.address}`,
        `--secure-port=${this.port}`,
        '--insecure-port=0',
        `--tls-cert-file=${file('tls.crt')}`,
        `--tls-private-key-file=${file('tls.key')}`,
        `--cert-dir=${this.folder}`,
        `--service-account-issuer=${ISSUER}`,
        `--service-account-key-file=${file('accounts.key')}`,
        `--service-account-signing-key-file=${file('accounts.key')}`,
        `--token-auth-file=${file('tokens.csv')}`,
        '--authorization-mode=RBAC',
        '--service-cluster-ip-range=10.0.0.0/24',
        // Without, it keeps one pod CIDR a node; since Kubernetes 1.23 there is no such gate any more.
        '--feature-gates=IPv6DualStack=true',
        // Told to end, it gives running watches as long as that.
        '--request-timeout=5s',
        // Pods would wait for a token that nobody makes here.
        '--disable-admission-plugins=ServiceAccount',
      ],
      { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, GOMAXPROCS: '2' } },
    );
    this.child.stderr?.pipe(createWriteStream(file('log'), { flags: 'a' }));
    process.once('exit', this.killNow);
    await eventually(async () => {
      if (this.child?.exitCode !== null) throw new Error(`kube-apiserver ended:\n${await this.lastWords()}`);
      return (await this.send('GET', '/readyz', null, '')).status === 200;
    }, 60_000);
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const { child } = this;
    this.child = null;
    process.removeListener('exit', this.killNow);
    this.agent.destroy();
    this.agent = new Agent({ keepAlive: true });
    if (child?.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }

  async close(): Promise<void> {
    await this.kill();
    this.agent.destroy();
    await this.etcd.close();
    await rm(this.folder, { recursive: true, force: true });
  }

  async get(path: string): Promise<KubeObject> {
    return this.call('GET', path, null, '');
  }

  async create(path: string, object: unknown): Promise<KubeObject> {
    return this.call('POST', path, object, 'application/json');
  }

  /** A JSON merge patch: null takes a member away. */
  async patch(path: string, object: unknown): Promise<KubeObject> {
    return this.call('PATCH', path, object, 'application/merge-patch+json');
  }

  async delete(path: string): Promise<void> {
    await this.call('DELETE', path, null, '');
  }

  /** Of all nodes, as they are in etcd. */
  async nodes(): Promise<readonly KubeObject[]> {
    const { items } = (await this.get('/api/v1/nodes')) as KubeObject & { items: readonly KubeObject[] };
    return items;
  }

  private async call(method: string, path: string, object: unknown, type: string): Promise<KubeObject> {
    const { status, body } = await this.send(method, path, object, type);
    if (status < 200 || status >= 300) throw new ApiError(status, body);
    return JSON.parse(body) as KubeObject;
  }

  private async send(
    method: string,
    path: string,
    object: unknown,
    type: string,
  ): Promise<{ readonly status: number; readonly body: string }> {
    const headers = {
      authorization: `Bearer ${ADMIN_TOKEN}`,
      ...(object !== null && { 'content-type': type }),
    };
    const outgoing = request(`${this.url}${path}`, { method, headers, ca: this.ca, agent: this.agent });
    outgoing.end(object === null ? undefined : JSON.stringify(object));
    const [answer] = (await once(outgoing, 'response')) as [
      NodeJS.ReadableStream & { readonly statusCode: number },
    ];
    return { status: answer.statusCode, body: await text(answer) };
  }

  private async lastWords(): Promise<string> {
    return (await readFile(join(this.folder, 'log'), 'utf8')).slice(-2000);
  }

  private readonly killNow = (): void => {
    this.child?.kill('SIGKILL');
  };
}
