import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { FlannelError, messageOf } from '../../errors.js';
import { ANONYMOUS, FixedIdentity, parseServer, readSource } from './access.js';
import type { ClusterAccess, Identity, Source } from './access.js';
import { ExecIdentity, parseExec } from './exec-plugin.js';
import type { ClusterFacts } from './exec-plugin.js';
import { fieldsOf, listOf, textOf } from './json.js';
import type { JsonFields } from './json.js';

/**
 * The access that the current context of a kubeconfig file describes.
 * @param url in place of the server that the file names; empty for that
 * @throws FlannelError that names the file and what is wrong with it.
 */
export function kubeconfigAccess(file: string, url: string): ClusterAccess {
  const config = new Kubeconfig(file);
  const context = config.context();
  const cluster = config.named('clusters', 'cluster', context.cluster);
  const user = textOf(context.user) === '' ? {} : config.named('users', 'user', context.user);
  const server = url === '' ? textOf(cluster.server) : url;
  if (server === '') throw config.problem('its cluster has no server');
  for (const key of ['proxy-url', 'tls-server-name']) {
    if (cluster[key] !== undefined && typeof cluster[key] !== 'string') {
      throw config.problem(`${key} must be text`);
    }
  }
  if (textOf(cluster['proxy-url']) !== '') {
    throw config.problem('proxy-url is not supported; name a server that can be reached directly');
  }
  const ca = config.source(cluster, 'certificate-authority');
  const insecure = cluster['insecure-skip-tls-verify'] === true;
  if (insecure && ca !== null) {
    throw config.problem(
      'certificate-authority has no use with insecure-skip-tls-verify; take one of them out',
    );
  }
  const serverName = textOf(cluster['tls-server-name']) || null;
  const identity = identityOf(config, user, { server, ca, insecure, serverName });
  return {
    server: parseServer(server, url === '' ? `the server in ${file}` : '--kube-api-url'),
    identity,
    tls: async () => ({
      ca: await readSource(ca, 'the certificate authority of the kubeconfig'),
      certificate: await identity.certificate(),
      serverName,
      insecure,
    }),
  };
}

function identityOf(config: Kubeconfig, user: JsonFields, cluster: ClusterFacts): Identity {
  if (user.exec !== undefined && user.exec !== null) {
    return new ExecIdentity(parseExec(fieldsOf(user.exec), config.folder), cluster);
  }
  if (user['auth-provider'] !== undefined) {
    throw config.problem(
      'auth-provider is not supported (nor is it by Kubernetes any more); use an exec plugin',
    );
  }
  const cert = config.source(user, 'client-certificate');
  const key = config.source(user, 'client-key');
  if ((cert === null) !== (key === null)) {
    throw config.problem('a client certificate takes both client-certificate and client-key');
  }
  const token = tokenOf(config, user);
  return token === null && cert === null ? ANONYMOUS : new FixedIdentity(token, cert, key);
}

/** The file first: it is what gets renewed. */
function tokenOf(config: Kubeconfig, user: JsonFields): Source {
  const file = textOf(user.tokenFile);
  if (file !== '') return { file: config.path(file) };
  const token = textOf(user.token);
  return token === '' ? null : { data: Buffer.from(token) };
}

/** A kubeconfig file that has been read. */
class Kubeconfig {
  readonly folder: string;
  private readonly fields: JsonFields;

  constructor(private readonly file: string) {
    this.folder = dirname(resolve(file));
    let document: unknown;
    try {
      document = parse(readFileSync(file, 'utf8'));
    } catch (error) {
      const [first = ''] = messageOf(error).split('\n');
      throw new FlannelError(`cannot read the kubeconfig ${file}: ${first}`);
    }
    this.fields = fieldsOf(document);
    if (listOf(this.fields.clusters).length === 0) throw this.problem('it names no cluster');
  }

  problem(text: string): FlannelError {
    return new FlannelError(`the kubeconfig ${this.file} cannot be used: ${text}`);
  }

  /** The current context. */
  context(): JsonFields {
    const current = textOf(this.fields['current-context']);
    if (current === '') throw this.problem('it has no current-context');
    return this.named('contexts', 'context', current);
  }

  /** The entry of a list that has this name. */
  named(list: string, member: string, name: unknown): JsonFields {
    const wanted = textOf(name);
    const entries = listOf(this.fields[list]).map(fieldsOf);
    const entry = entries.find((candidate) => candidate.name === wanted);
    if (entry !== undefined) return fieldsOf(entry[member]);
    const known = entries.map((candidate) => textOf(candidate.name)).join(', ');
    throw this.problem(
      `there is no ${member} ${JSON.stringify(wanted)}; its ${list} are: ${known || 'none'}`,
    );
  }

  /** `key-data` in base64, else the file that `key` names. */
  source(fields: JsonFields, key: string): Source {
    const data = textOf(fields[`${key}-data`]);
    if (data !== '') return { data: Buffer.from(data, 'base64') };
    const file = textOf(fields[key]);
    return file === '' ? null : { file: this.path(file) };
  }

  /** Relative to the folder of the kubeconfig. */
  path(file: string): string {
    return resolve(this.folder, file);
  }
}
