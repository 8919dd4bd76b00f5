/** The result of ADD as a runtime hands it back. */
import type { Dictionary } from './net-conf.js';

/** The addresses that the container got, with their lengths. */
export function addressesOf(result: Dictionary): string[] {
  return dictionaries(result.ips).flatMap(({ address }) => (typeof address === 'string' ? [address] : []));
}

/**
 * The same with each route's gateway written out. Where a route names none, plugins take that of the address (CNI
 * specification, section 5), but when the reference plugins check such a route they look for one without any.
 */
export function withGateways(result: Dictionary): Dictionary {
  if (!Array.isArray(result.routes)) return result;
  const gateways = dictionaries(result.ips).flatMap(({ gateway }) =>
    typeof gateway === 'string' ? [gateway] : [],
  );
  const routes = dictionaries(result.routes).map((route) => {
    const gw = gateways.find((gateway) => isIp6(gateway) === isIp6(String(route.dst)));
    return 'gw' in route || gw === undefined ? route : { ...route, gw };
  });
  return { ...result, routes };
}

function dictionaries(list: unknown): Dictionary[] {
  if (!Array.isArray(list)) return [];
  return list.filter((item): item is Dictionary => typeof item === 'object' && item !== null);
}

function isIp6(text: string): boolean {
  return text.includes(':');
}
