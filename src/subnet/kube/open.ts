import { readFileSync } from 'node:fs';
import { parseKubeNetworkConfig } from '../../config.js';
import type { NetworkConfig } from '../../config.js';
import { FlannelError, messageOf } from '../../errors.js';
import type { Options } from '../../flags.js';
import { log } from '../../log.js';
import { Backoff } from '../../retry.js';
import { StoreMonitor } from '../health.js';
import { ANONYMOUS, parseServer } from './access.js';
import type { ClusterAccess } from './access.js';
import { annotationNames } from './annotations.js';
import { KubeClient } from './client.js';
import { KubeError } from './error.js';
import { inClusterAccess } from './in-cluster.js';
import { fieldsOf, textOf } from './json.js';
import { kubeconfigAccess } from './kubeconfig.js';
import { KubeManager } from './manager.js';

type Environment = Readonly<Record<string, string | undefined>>;

type KubeOptions = Pick<
  Options,
  'kubeApiUrl' | 'kubeconfigFile' | 'kubeAnnotationPrefix' | 'netConfigPath' | 'setNodeNetworkUnavailable'
>;

/**
 * The Kubernetes store, as flags and environment name it. Waits for the API server where that is needed to find out
 * which node this is.
 * @throws FlannelError, never a retryable one, or the signal's reason.
 */
export async function openKube(
  options: KubeOptions,
  env: Environment,
  signal: AbortSignal,
): Promise<KubeManager> {
  let client: KubeClient | null = null;
  try {
    checkQueueDepth(env);
    const names = annotationNames(options.kubeAnnotationPrefix);
    client = new KubeClient(clusterAccess(options, env));
    const { NODE_NAME: given = '' } = env;
    const nodeName = given === '' ? await nodeOfPod(client, env, signal) : given;
    const config = readNetConf(options.netConfigPath);
    const monitor = new StoreMonitor('the Kubernetes API server');
    return new KubeManager(client, nodeName, config, names, options.setNodeNetworkUnavailable, monitor);
  } catch (error) {
    client?.close();
    if (!(error instanceof FlannelError)) throw error;
    throw new FlannelError(`Failed to create SubnetManager: ${error.message}`, { cause: error });
  }
}

/** A URL by itself says nothing about who asks; as with Kubernetes' own clients, nobody does then. */
function clusterAccess(
  { kubeApiUrl: url, kubeconfigFile: file }: KubeOptions,
  env: Environment,
): ClusterAccess {
  if (file !== '') return kubeconfigAccess(file, url);
  if (url === '') return inClusterAccess(env);
  return {
    server: parseServer(url, '--kube-api-url'),
    identity: ANONYMOUS,
    tls: () => Promise.resolve({ ca: null, certificate: null, serverName: null, insecure: false }),
  };
}

/** Events are not queued here: what is there to be done follows from the state of the table. */
function checkQueueDepth({ EVENT_QUEUE_DEPTH: depth = '' }: Environment): void {
  if (depth !== '' && !/^[+-]?\d+$/.test(depth)) {
    throw new FlannelError(
      `env EVENT_QUEUE_DEPTH=${depth} format error: write a whole number, or leave it out`,
    );
  }
}

async function nodeOfPod(client: KubeClient, env: Environment, signal: AbortSignal): Promise<string> {
  const { POD_NAME: pod = '', POD_NAMESPACE: namespace = '' } = env;
  if (pod === '' || namespace === '') {
    throw new FlannelError('env variables POD_NAME and POD_NAMESPACE must be set, or NODE_NAME alone');
  }
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}`;
  const backoff = new Backoff(500, 5_000, Math.random);
  for (;;) {
    try {
      const nodeName = textOf(fieldsOf((await client.get(path, signal)).spec).nodeName);
      if (nodeName !== '') return nodeName;
      throw new FlannelError(`the pod ${namespace}/${pod} is on no node yet`);
    } catch (error) {
      if (!(error instanceof FlannelError)) throw error;
      const text = `error retrieving pod spec for '${namespace}/${pod}': ${error.message}`;
      if (!(error instanceof KubeError) || !mayPass(error)) throw new FlannelError(text);
      log.warning(`${text}; trying again`);
      if (!(await backoff.wait(signal))) signal.throwIfAborted();
    }
  }
}

/** The server is away, overloaded or just starting. */
function mayPass({ status }: KubeError): boolean {
  return status === null || status === 429 || status >= 500;
}

/** @throws FlannelError with flannel's own words. */
function readNetConf(path: string): NetworkConfig {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new FlannelError(
      `failed to read net conf: ${messageOf(error)}; name the file with --net-config-path`,
    );
  }
  try {
    return parseKubeNetworkConfig(text);
  } catch (error) {
    throw new FlannelError(`error parsing subnet config: ${messageOf(error)} (${path})`, { cause: error });
  }
}
