/** Store, network config, and who else claims to be this host. */
import { formatIp4 } from '../ip.js';
import { sameHost } from '../lease/identity.js';
import { formatSubnetKey } from '../lease/subnet-key.js';
import { error, note, ok, skipped, warning } from './finding.js';
import type { Finding } from './finding.js';
import type { Observed } from './observe.js';

export function checkStore({ store, options }: Observed): Finding[] {
  const { description, problem, config, configProblem, leases } = store;
  const directory = options.subnetDir;
  if (problem !== null) {
    const why =
      'without it there is no subnet and no news of other hosts; packets to those already known still flow';
    const remedy =
      directory === ''
        ? `etcdctl --endpoints=${options.etcdEndpoints.replace(/\/\/[^/@,]*@/g, '//')} endpoint health; mend --etcd-endpoints, --etcd-cafile, --etcd-certfile, --etcd-keyfile`
        : `mkdir -p ${directory}, or mount it, or mend --subnet-dir`;
    return [error('store', `${description}: ${problem}`, why, remedy)];
  }
  const reachable = ok('store', `${description} answers`);
  if (configProblem !== null) {
    const json = '\'{"Network":"10.244.0.0/16","Backend":{"Type":"udp"}}\'';
    const remedy =
      directory === ''
        ? `etcdctl put ${options.etcdPrefix}/config ${json}, with the network that is yours`
        : `echo ${json} > ${directory}/config, with the network that is yours`;
    return [reachable, error('config', configProblem, 'flanneld waits until it is there and valid', remedy)];
  }
  const network = ok('config', `network ${config?.network.toString() ?? ''}, ${leases?.length ?? 0} leases`);
  return [reachable, leases === null ? skipped('config', 'the leases cannot be read') : network];
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

export function checkPublicIp({ store, attrs, ownSubnet, owner, port }: Observed): Finding {
  const id = 'public-ip';
  if (store.leases === null || attrs === null)
    return skipped(id, 'the leases, or the own address, are not known');
  const ip = formatIp4(attrs.publicIp);
  const claims = store.leases.filter((lease) => sameHost(lease.attrs, attrs));
  const foreign = claims.filter(
    ({ subnet, writer }) =>
      writer === 'elsewhere' || (ownSubnet !== null && !ownSubnet.equals(subnet.v4.network())),
  );
  if (foreign.length > 0 || claims.length > 1) {
    const keys = (foreign.length > 0 ? foreign : claims).map(({ subnet }) => formatSubnetKey(subnet));
    return error(
      id,
      `${keys.join(', ')} is leased for ${ip} as well, which is the public IP of this host` +
        (ownSubnet === null ? '' : ` with ${ownSubnet.toString()}`),
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
