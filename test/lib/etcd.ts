import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from './tcp-proxy.js';
import { eventually } from './eventually.js';

const run = promisify(execFile);

/** PEM files for a server that speaks TLS, and for `etcdctl` to check it. */
export interface EtcdTls {
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
  /** Demand a client certificate signed by the CA. */
  readonly clientCertAuth: boolean;
}

export interface EtcdOptions {
  /** Where it listens for clients; 127.0.0.1 unless told otherwise. */
  readonly address?: string;
  readonly tls?: EtcdTls;
  readonly args?: readonly string[];
}

/** A real etcd, with a data folder of its own: the only member, or one of an EtcdCluster. */
export class Etcd {
  private child: ChildProcess | null = null;
  /** All members, as `--initial-cluster` wants them. */
  private cluster: string;

  private constructor(
    private readonly folder: string,
    readonly port: number,
    private readonly peerPort: number,
    private readonly options: EtcdOptions,
    readonly name: string,
  ) {
    this.cluster = this.asPeer;
  }

  static async start(options: EtcdOptions = {}): Promise<Etcd> {
    const etcd = await Etcd.prepare(options);
    await etcd.restart();
    return etcd;
  }

  /** Members that know of each other. None runs yet. */
  static async prepareCluster(size: number, options: EtcdOptions): Promise<Etcd[]> {
    const members: Etcd[] = [];
    for (let n = 1; n <= size; n++) members.push(await Etcd.prepare(options, `member-${n}`));
    for (const member of members) member.cluster = members.map(({ asPeer }) => asPeer).join(',');
    return members;
  }

  private static async prepare(options: EtcdOptions, name = 'default'): Promise<Etcd> {
    const folder = await mkdtemp(join(tmpdir(), 'etcd-test-'));
    return new Etcd(folder, await freePort(), await freePort(), options, name);
  }

  private get asPeer(): string {
    return `${this.name}=http://127.0.0.1:${this.peerPort}`;
  }

  get running(): boolean {
    return this.child !== null;
  }

  get endpoint(): string {
    return `${this.options.tls === undefined ? 'http' : 'https'}://${this.options.address ?? '127.0.0.1'}:${this.port}`;
  }

  /** Starts it again on the data it has; resolves when it answers, for which it takes a majority of its cluster. */
  async restart(): Promise<void> {
    this.launch();
    await this.healthy();
  }

  /** Resolves when it answers. */
  async healthy(): Promise<void> {
    await eventually(() => this.isHealthy());
  }

  /** Starts it and does not wait. */
  launch(): void {
    const { tls, args = [] } = this.options;
    const peer = `http://127.0.0.1:${this.peerPort}`;
    const security = tls === undefined ? [] : [`--cert-file=${tls.certFile}`, `--key-file=${tls.keyFile}`];
    // etcd 3.4 demands client certificates as soon as it is told a CA.
    if (tls?.clientCertAuth === true) security.push(`--trusted-ca-file=${tls.caFile}`, '--client-cert-auth');
    this.child = spawn(
      'etcd',
      [
        `--name=${this.name}`,
        `--data-dir=${this.folder}/data`,
        `--listen-client-urls=${this.endpoint}`,
        `--advertise-client-urls=${this.endpoint}`,
        `--listen-peer-urls=${peer}`,
        `--initial-advertise-peer-urls=${peer}`,
        `--initial-cluster=${this.cluster}`,
        '--heartbeat-interval=20',
        '--election-timeout=200',
        ...security,
        ...args,
      ],
      { stdio: 'ignore' },
    );
    process.once('exit', this.killNow);
  }

  /** Runs etcdctl; its standard output. Credentials and the like come in `args`. */
  async ctl(...args: string[]): Promise<string> {
    const { tls } = this.options;
    const security =
      tls === undefined ? [] : [`--cacert=${tls.caFile}`, `--cert=${tls.certFile}`, `--key=${tls.keyFile}`];
    const { stdout } = await run('etcdctl', [`--endpoints=${this.endpoint}`, ...security, ...args], {
      env: { ...process.env, ETCDCTL_API: '3' },
    });
    return stdout;
  }

  private async isHealthy(): Promise<boolean> {
    try {
      await this.ctl('endpoint', 'health');
      return true;
    } catch (error) {
      // That much only a member with a leader can tell.
      return String(error).includes('user name is empty');
    }
  }

  /** The highest revision in the store. */
  async revision(): Promise<number> {
    const status = JSON.parse(await this.ctl('endpoint', 'status', '-w', 'json')) as [
      { Status: { header: { revision: number } } },
    ];
    return status[0].Status.header.revision;
  }

  /** Whether it leads its cluster. */
  async leads(): Promise<boolean> {
    const status = await this.ctl('endpoint', 'status', '-w', 'fields');
    const of = (field: string) => new RegExp(`"${field}" : (\\d+)`).exec(status)?.[1];
    return of('Leader') !== undefined && of('Leader') === of('MemberID');
  }

  async compact(): Promise<void> {
    await this.ctl('compaction', '--physical', String(await this.revision()));
  }

  /** Ids of all etcd leases. */
  async leases(): Promise<string[]> {
    const lines = (await this.ctl('lease', 'list')).trim().split('\n');
    return lines.slice(1);
  }

  /** kill -9, or a signal of choice that ends it. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const { child } = this;
    this.child = null;
    process.removeListener('exit', this.killNow);
    if (child?.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGCONT');
    child.kill(signal);
    await exited;
  }

  /** Freezes it: connections stay open and nobody answers. `kill` or `resume` ends that. */
  pause(): void {
    this.child?.kill('SIGSTOP');
  }

  resume(): void {
    this.child?.kill('SIGCONT');
  }

  /** Deletes its data; only while it does not run. */
  async wipe(): Promise<void> {
    await rm(join(this.folder, 'data'), { recursive: true, force: true });
  }

  async close(): Promise<void> {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }

  private readonly killNow = (): void => {
    this.child?.kill('SIGKILL');
  };
}

/** Real etcd members that form one cluster. Each can be killed, paused and restarted by itself. */
export class EtcdCluster {
  private constructor(readonly members: readonly Etcd[]) {}

  static async start(options: EtcdOptions = {}, size = 3): Promise<EtcdCluster> {
    const cluster = new EtcdCluster(await Etcd.prepareCluster(size, options));
    try {
      for (const member of cluster.members) member.launch();
      await Promise.all(cluster.members.map((member) => member.healthy()));
    } catch (error) {
      await cluster.close();
      throw error;
    }
    return cluster;
  }

  get endpoints(): string[] {
    return this.members.map(({ endpoint }) => endpoint);
  }

  /** The member that leads; waits for an election that is going on. */
  async leader(): Promise<Etcd> {
    return eventually(async () => {
      for (const member of this.members) {
        if (member.running && (await member.leads().catch(() => false))) return member;
      }
      throw new Error('no running member leads the cluster');
    });
  }

  /** Runs etcdctl against a member that runs. */
  async ctl(...args: string[]): Promise<string> {
    const member = this.members.find(({ running }) => running);
    if (member === undefined) throw new Error('no member runs');
    return member.ctl(...args);
  }

  async close(): Promise<void> {
    await Promise.all(this.members.map((member) => member.close()));
  }
}
