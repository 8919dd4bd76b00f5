/** The config of the plugin that does the work: the user's wishes completed by what flanneld has leased. */
import { FlannelError } from '../errors.js';
import type { Dictionary, NetConf } from './net-conf.js';
import type { Request } from './request.js';
import type { SubnetEnv } from './subnet-env.js';

/** Plugin of a delegate that names none. */
const DEFAULT_DELEGATE = 'bridge';
const DEFAULT_IPAM = 'host-local';

/** The plugin that is called. */
export function delegateType({ delegate }: NetConf): string {
  return typeof delegate.type === 'string' ? delegate.type : DEFAULT_DELEGATE;
}

/** The plugin that gives out addresses; empty where the config holds something else than a name. */
export function ipamType({ ipam }: NetConf): string {
  const type = ipam.type ?? DEFAULT_IPAM;
  return typeof type === 'string' ? type : '';
}

/** @throws FlannelError when the user's routes are none. */
export function delegateConf(
  { network, cniVersion }: Pick<Request, 'network' | 'cniVersion'>,
  conf: NetConf,
  env: SubnetEnv,
): Dictionary {
  const type = delegateType(conf);
  return {
    // What is given wins over these three.
    ipMasq: !env.ipMasq,
    mtu: env.mtu,
    ...(type === 'bridge' ? { isGateway: true } : {}),
    ...conf.delegate,
    ...(conf.runtimeConfig === null ? {} : { runtimeConfig: conf.runtimeConfig }),
    name: network,
    type,
    ...(cniVersion === '' ? {} : { cniVersion }),
    ipam: ipamConf(conf.ipam, env),
  };
}

/** JSON with the members of all objects in order, as Go writes maps: one config always gives the same bytes. */
export function canonicalJson(value: Dictionary): string {
  return JSON.stringify(value, (_, member: unknown) =>
    typeof member === 'object' && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  );
}

function ipamConf(given: Dictionary, { networks, subnets }: SubnetEnv): Dictionary {
  return {
    type: DEFAULT_IPAM,
    ...given,
    ranges: subnets.map((subnet) => [{ subnet }]),
    routes: [...givenRoutes(given.routes), ...networks.map((dst) => ({ dst }))],
  };
}

function givenRoutes(routes: unknown): unknown[] {
  if (routes === undefined || routes === null) return [];
  const ok = Array.isArray(routes) && routes.every(isRoute);
  if (ok) return routes as unknown[];
  throw new FlannelError(
    `ipam.routes is ${JSON.stringify(routes).slice(0, 80)}, expected a list of {"dst": CIDR, "gw": address}`,
  );
}

function isRoute(route: unknown): boolean {
  return typeof route === 'object' && route !== null && 'dst' in route && typeof route.dst === 'string';
}
