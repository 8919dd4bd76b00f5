import { existsSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { FlannelError } from '../../errors.js';
import { FixedIdentity, parseServer, readSource } from './access.js';
import type { ClusterAccess } from './access.js';

/** Where kubelet puts what a pod needs to know of its service account. It replaces the token from time to time. */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/**
 * The access that a pod has by itself.
 * @param folder of the service account's files
 * @throws FlannelError outside a cluster.
 */
export function inClusterAccess(
  env: Readonly<Record<string, string | undefined>>,
  folder = SERVICE_ACCOUNT,
): ClusterAccess {
  const { KUBERNETES_SERVICE_HOST: host = '', KUBERNETES_SERVICE_PORT: port = '' } = env;
  if (host === '' || port === '') {
    throw new FlannelError(
      'unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be ' +
        'defined; outside a pod, name a kubeconfig with --kubeconfig-file',
    );
  }
  const token = join(folder, 'token');
  if (!existsSync(token)) {
    throw new FlannelError(
      `unable to load in-cluster configuration: there is no ${token}; give the pod a service account ` +
        '(automountServiceAccountToken), or name a kubeconfig with --kubeconfig-file',
    );
  }
  const address = isIPv6(host) ? `[${host}]` : host;
  const caFile = join(folder, 'ca.crt');
  return {
    server: parseServer(`https://${address}:${port}`, 'KUBERNETES_SERVICE_HOST with KUBERNETES_SERVICE_PORT'),
    identity: new FixedIdentity({ file: token }, null, null),
    tls: async () => {
      const ca = await readSource({ file: caFile }, 'the certificate authority of the cluster');
      return { ca, certificate: null, serverName: null, insecure: false };
    },
  };
}
