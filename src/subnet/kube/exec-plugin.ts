/** Credentials from a program: client.authentication.k8s.io, as Kubernetes' own clients run it. */
import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { FlannelError, messageOf } from '../../errors.js';
import { readSource } from './access.js';
import type { ClientCertificate, Identity, Source } from './access.js';
import { fieldsOf, listOf, textOf } from './json.js';
import type { JsonFields } from './json.js';

const VERSIONS = ['client.authentication.k8s.io/v1', 'client.authentication.k8s.io/v1beta1'];
const PATIENCE_MS = 60_000;
const MOST_OUTPUT = 1 << 20;

/** The `exec` of a kubeconfig's user. */
interface ExecConfig {
  readonly apiVersion: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly installHint: string;
  readonly provideClusterInfo: boolean;
}

/** What the program may want to know of the cluster. */
export interface ClusterFacts {
  readonly server: string;
  readonly ca: Source;
  readonly insecure: boolean;
  readonly serverName: string | null;
}

/** What the program has answered. */
interface Credential {
  readonly token: string | null;
  readonly certificate: ClientCertificate | null;
  /** Milliseconds since the epoch. */
  readonly expires: number;
}

/**
 * @param folder that a relative path of the command starts from
 * @throws FlannelError that says what is wrong.
 */
export function parseExec(exec: JsonFields, folder: string): ExecConfig {
  const command = textOf(exec.command);
  const apiVersion = textOf(exec.apiVersion);
  if (command === '') throw new FlannelError('the exec plugin of the kubeconfig has no command');
  if (!VERSIONS.includes(apiVersion)) {
    throw new FlannelError(
      `the exec plugin ${command} has the apiVersion ${JSON.stringify(apiVersion)}; known are ${VERSIONS.join(', ')}`,
    );
  }
  if (exec.interactiveMode === 'Always') {
    throw new FlannelError(
      `the exec plugin ${command} wants a terminal (interactiveMode), and there is none`,
    );
  }
  const env = listOf(exec.env).map((entry) => {
    const { name, value } = fieldsOf(entry);
    return [textOf(name), textOf(value)] as const;
  });
  return {
    apiVersion,
    command: command.includes('/') ? resolve(folder, command) : command,
    args: listOf(exec.args).map(textOf),
    env: Object.fromEntries(env),
    installHint: textOf(exec.installHint).trim(),
    provideClusterInfo: exec.provideClusterInfo === true,
  };
}

/** Runs the program when credentials are needed, and again once they have expired or were rejected. */
export class ExecIdentity implements Identity {
  private credential: Promise<Credential> | null = null;
  private expires = Infinity;

  constructor(
    private readonly exec: ExecConfig,
    private readonly cluster: ClusterFacts,
  ) {}

  async authorization(): Promise<string | null> {
    const { token } = await this.current();
    return token === null ? null : `Bearer ${token}`;
  }

  async certificate(): Promise<ClientCertificate | null> {
    return (await this.current()).certificate;
  }

  rejected(): void {
    this.credential = null;
  }

  private async current(): Promise<Credential> {
    if (Date.now() >= this.expires) this.credential = null;
    this.credential ??= this.run();
    try {
      const credential = await this.credential;
      this.expires = credential.expires;
      return credential;
    } catch (error) {
      this.credential = null;
      throw error;
    }
  }

  private async run(): Promise<Credential> {
    const { command, args, env } = this.exec;
    const info = JSON.stringify(await this.request());
    const output = await new Promise<string>((fulfil, reject) => {
      const options = {
        env: { ...process.env, ...env, KUBERNETES_EXEC_INFO: info },
        timeout: PATIENCE_MS,
        maxBuffer: MOST_OUTPUT,
      };
      const child = execFile(command, args, options, (error, stdout, stderr) => {
        if (error === null) fulfil(stdout);
        else reject(this.problem(describeFailure(error, stderr)));
      });
      child.stdin?.end();
    });
    return this.read(output);
  }

  private async request(): Promise<unknown> {
    const { apiVersion, provideClusterInfo } = this.exec;
    const { server, ca, insecure, serverName } = this.cluster;
    const pem = await readSource(ca, 'the certificate authority of the kubeconfig');
    const cluster = {
      server,
      ...(insecure && { 'insecure-skip-tls-verify': true }),
      ...(serverName !== null && { 'tls-server-name': serverName }),
      ...(pem !== null && { 'certificate-authority-data': pem.toString('base64') }),
    };
    return {
      kind: 'ExecCredential',
      apiVersion,
      spec: { interactive: false, ...(provideClusterInfo && { cluster }) },
    };
  }

  private read(output: string): Credential {
    let document: JsonFields;
    try {
      document = fieldsOf(JSON.parse(output));
    } catch {
      throw this.problem('its output is no JSON; expected an ExecCredential');
    }
    if (document.apiVersion !== this.exec.apiVersion || document.kind !== 'ExecCredential') {
      throw this.problem(
        `it answered with ${JSON.stringify(document.kind)} of ${JSON.stringify(document.apiVersion)}; ` +
          `expected "ExecCredential" of "${this.exec.apiVersion}"`,
      );
    }
    const status = fieldsOf(document.status);
    const token = textOf(status.token).trim() || null;
    const cert = textOf(status.clientCertificateData);
    const key = textOf(status.clientKeyData);
    if ((cert === '') !== (key === '')) {
      throw this.problem('clientCertificateData and clientKeyData go together, and one is missing');
    }
    const certificate = cert === '' ? null : { cert: Buffer.from(cert), key: Buffer.from(key) };
    if (token === null && certificate === null)
      throw this.problem('it gave neither a token nor a certificate');
    const until = textOf(status.expirationTimestamp);
    const expires = until === '' ? Infinity : Date.parse(until);
    if (Number.isNaN(expires)) {
      throw this.problem(`expirationTimestamp ${JSON.stringify(until)} is no time of RFC 3339`);
    }
    return { token, certificate, expires };
  }

  private problem(text: string): FlannelError {
    const { command, installHint } = this.exec;
    const hint = installHint === '' ? '' : `; ${installHint.replace(/\s+/g, ' ')}`;
    return new FlannelError(`the exec plugin ${command} of the kubeconfig failed: ${text}${hint}`);
  }
}

function describeFailure(error: Error & { killed?: boolean }, stderr: string): string {
  if (error.killed === true) return `it did not end within ${PATIENCE_MS / 1000} s`;
  const [line = ''] = stderr.trim().split('\n').slice(-1);
  return line === '' ? messageOf(error).replace(/\s+/g, ' ') : line;
}
