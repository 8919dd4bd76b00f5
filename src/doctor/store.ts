/** Store, network config, and who else claims to be this host. */
import type { Options } from '../flags.js';
import { formatPublicIp, sameHost } from '../lease/identity.js';
import { formatSubnetKey } from '../lease/subnet-key.js';
import { overlayNetworks } from '../overlay.js';
import { error, note, ok, skipped, warning } from './finding.js';
import type { Finding } from './finding.js';
import type { Observed, StoreFacts } from './observe.js';
import { isOwn } from './peers-of.js';

export function checkStore({ store, options }: Observed): Finding[] {
  const { description, problem, config, configProblem, leases } = store;
  const remedies = remediesOf(store.kind, options);
  if (problem !== null) {
    const why =
      'without it there is no subnet and no news of other hosts; packets to those already known still flow';
    return [error('store', `${description}: ${problem}`, why, remedies.store)];
  }
  const reachable = ok('store', `${description} answers`);
  if (configProblem !== null) {
    const why = 'flanneld waits until it is there and valid';
    return [reachable, error('config', configProblem, why, remedies.config)];
  }
  const networks = config === null ? [] : overlayNetworks(config).map(String);
  const network = ok('config', `network ${networks.join(' and ')}, ${leases?.length ?? 0} leases`);
  return [reachable, leases === null ? skipped('config', 'the leases cannot be read') : network];
}

/** What to do where the store does not answer, and where there is no valid config in it. */
function remediesOf(
  kind: StoreFacts['kind'],
  { subnetDir, etcdEndpoints, etcdPrefix, netConfigPath }: Options,
): { readonly store: string; readonly config: string } {
  const json = '\'{"Network":"10.244.0.0/16","Backend":{"Type":"udp"}}\'';
  const yours = 'with the network that is yours';
  switch (kind) {
    case 'Kubernetes':
      return {
        store:
          'kubectl get --raw /readyz from this host; mend --kubeconfig-file or --kube-api-url, or the permissions of ' +
          'the service account',
        config: `echo ${json} > ${netConfigPath}, ${yours}; in a pod it comes from a ConfigMap`,
      };
    case 'directory':
      return {
        store: `mkdir -p ${subnetDir}, or mount it, or mend --subnet-dir`,
        config: `echo ${json} > ${subnetDir}/config, ${yours}`,
      };
    case 'etcd':
      return {
        store: `etcdctl --endpoints=${etcdEndpoints} endpoint health; mend --etcd-endpoints, --etcd-cafile, --etcd-certfile, --etcd-keyfile`,
        config: `etcdctl put ${etcdPrefix}/config ${json}, ${yours}`,
      };
  }
}

export function checkSettings({ settingsProblem, store, options }: Observed): Finding[] {
  const type = options.backend === '' ? (store.config?.backendType ?? 'udp') : options.backend.toLowerCase();
  if (type !== 'udp') {
    const why = 'flanneld does not start with a backend that it does not have';
    return [
      error('backend', `the backend is "${type}"`, why, 'set Backend.Type to udp, or give --backend=udp'),
    ];
  }
  if (settingsProblem === null) return [];
  return [
    error(
      'backend',
      settingsProblem,
      'flanneld does not start',
      'mend the Backend of the network config, or the flag that is named',
    ),
  ];
}

export function checkPublicIp(observed: Observed): Finding {
  const { store, attrs, ownSubnets, owner, port } = observed;
  const id = 'public-ip';
  if (store.leases === null || attrs === null)
    return skipped(id, 'the leases, or the own address, are not known');
  const ip = formatPublicIp(attrs);
  const claims = store.leases.filter((lease) => sameHost(lease.attrs, attrs));
  const foreign = claims.filter(
    ({ subnet, writer }) =>
      writer === 'elsewhere' || writer === 'informed' || isOwn(subnet, observed) === false,
  );
  if (foreign.length > 0 || claims.length > 1) {
    const keys = (foreign.length > 0 ? foreign : claims).map(({ subnet }) => formatSubnetKey(subnet));
    const own = ownSubnets.v4 ?? ownSubnets.v6;
    return error(
      id,
      `${keys.join(', ')} is leased for ${ip} as well, which is the public IP of this host` +
        (own === null ? '' : ` with ${own.toString()}`),
      'two hosts with one public IP are one host to all others: packets for one end at the other',
      `give each its own --public-ip, or behind one NAT its own --udp-port (here ${port}); delete a lease that nobody uses`,
    );
  }
  const [own] = claims;
  if (own !== undefined) return ok(id, `${ip} holds ${formatSubnetKey(own.subnet)}`);
  if (!owner.alive) return ok(id, `${ip} has no lease yet`);
  return warning(
    id,
    `a flanneld runs here, but ${ip} has no lease`,
    'other hosts do not know this one, so nothing from them arrives',
    'look into the log of flanneld; doctor has to be given the same flags',
  );
}

export function checkDaemon({ owner }: Observed): Finding {
  const id = 'daemon';
  if (!owner.alive) return note(id, 'no flanneld runs with this subnet file and control socket');
  return ok(id, `a flanneld runs${owner.device === null ? '' : ` with the device ${owner.device.name}`}`);
}
