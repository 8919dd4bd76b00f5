import { resolve } from 'node:path';
import type { Options } from '../flags.js';
import { DirectoryRegistry } from './directory/registry.js';
import { EtcdRegistry } from './etcd/registry.js';
import { openKube } from './kube/open.js';
import { LocalManager } from './local-manager.js';
import type { SubnetManager } from './manager.js';
import type { PreviousSubnets } from './subnet-file.js';

/**
 * The store that the flags name: Kubernetes or a directory where one is asked for, else etcd.
 * @param previous what the subnet file names
 * @throws FlannelError when its settings make no sense, or the signal's reason.
 */
export async function createSubnetManager(
  options: Options,
  previous: PreviousSubnets,
  signal: AbortSignal,
): Promise<SubnetManager> {
  if (options.kubeSubnetMgr) return openKube(options, process.env, signal);
  if (options.subnetDir !== '') {
    return new LocalManager(new DirectoryRegistry(resolve(options.subnetDir)), 'Directory', previous);
  }
  return new LocalManager(openEtcd(options), 'Etcd', previous);
}

function openEtcd(options: Options): EtcdRegistry {
  return new EtcdRegistry({
    endpoints: options.etcdEndpoints.split(','),
    prefix: options.etcdPrefix,
    caFile: options.etcdCafile,
    certFile: options.etcdCertfile,
    keyFile: options.etcdKeyfile,
    username: options.etcdUsername,
    password: options.etcdPassword,
  });
}
