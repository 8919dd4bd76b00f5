/** What of a Kubernetes node matters here: its subnets, what its flanneld announces, and one condition. */
import type { Ip } from '../../address.js';
import type { NetworkConfig } from '../../config.js';
import { FlannelError } from '../../errors.js';
import { Cidr4 } from '../../ip.js';
import { Cidr6 } from '../../ip6.js';
import type { LeaseAttrs, LeaseSubnet } from '../../lease/lease.js';
import type { AnnotationNames } from './annotations.js';
import { announcedBy } from './announcement.js';
import { fieldsOf, listOf, textOf } from './json.js';
import type { JsonFields } from './json.js';

/** The condition that keeps pods off a node until its network works. */
export const NETWORK_UNAVAILABLE = 'NetworkUnavailable';

/** A node as the API server tells of it, read but not checked. */
export interface KubeNode {
  readonly name: string;
  readonly resourceVersion: string;
  readonly annotations: JsonFields;
  /** `spec.podCIDRs`, else `spec.podCIDR`, else none. */
  readonly podCidrs: readonly string[];
  readonly conditions: readonly unknown[];
}

/** The pod CIDR of each family; both null where the node has none yet. */
export interface PodCidrs {
  readonly v4: Cidr4 | null;
  readonly v6: Cidr6 | null;
}

/** Which families are carried. */
type Families = Pick<NetworkConfig, 'enableIPv4' | 'enableIPv6'>;

/** Reads a node, or null for what is none. */
export function readNode(object: unknown): KubeNode | null {
  const { metadata, spec, status } = fieldsOf(object);
  const { name, resourceVersion, annotations } = fieldsOf(metadata);
  if (textOf(name) === '') return null;
  const { podCIDR, podCIDRs } = fieldsOf(spec);
  const several = listOf(podCIDRs).map(textOf);
  const podCidrs = several.length > 0 ? several : [textOf(podCIDR)].filter((cidr) => cidr !== '');
  return {
    name: textOf(name),
    resourceVersion: textOf(resourceVersion),
    annotations: fieldsOf(annotations),
    podCidrs,
    conditions: listOf(fieldsOf(status).conditions),
  };
}

/** The status of the condition NetworkUnavailable: `True`, `False`, `Unknown`, or empty where there is none. */
export function networkUnavailable({ conditions }: KubeNode): string {
  return textOf(conditions.map(fieldsOf).find(({ type }) => type === NETWORK_UNAVAILABLE)?.status);
}

/** @throws FlannelError for a pod CIDR that is none, and for more than two. */
export function podCidrsOf(node: KubeNode): PodCidrs {
  if (node.podCidrs.length > 2) {
    throw new FlannelError(`node "${node.name}" has ${node.podCidrs.length} pod CIDRs; expected one or two`);
  }
  let v4: Cidr4 | null = null;
  let v6: Cidr6 | null = null;
  for (const text of node.podCidrs) {
    const cidr4 = Cidr4.parse(text);
    const cidr6 = cidr4 === undefined ? Cidr6.parse(text) : undefined;
    if (cidr4 !== undefined) v4 ??= cidr4.network();
    else if (cidr6 !== undefined) v6 ??= cidr6.network();
    else
      throw new FlannelError(`node "${node.name}" has the pod CIDR ${JSON.stringify(text)}, which is none`);
  }
  return { v4, v6 };
}

/**
 * What this host gets out of its node: a pod CIDR of each family that is carried, which must lie in the network.
 * @throws FlannelError with flannel's own words.
 */
export function subnetOf(
  node: KubeNode,
  config: Families & Pick<NetworkConfig, 'network' | 'ipv6Network'>,
): LeaseSubnet {
  if (node.podCidrs.length === 0) {
    throw new FlannelError(
      `node "${node.name}" pod cidr not assigned; start kube-controller-manager with --allocate-node-cidrs and ` +
        '--cluster-cidr (kubeadm: --pod-network-cidr), or set the podCIDR of the node',
    );
  }
  const { v4, v6 } = podCidrsOf(node);
  return {
    v4: config.enableIPv4 ? checked(v4, config.network, 'IPv4', node) : null,
    v6: config.enableIPv6 ? checked(v6, config.ipv6Network ?? NO_NETWORK_6, 'IPv6', node) : null,
  };
}

/** What stands for a missing IPv6Network. */
const NO_NETWORK_6 = new Cidr6('::', 0);

function checked<A extends Ip, C extends Prefix<A>>(
  cidr: C | null,
  network: Prefix<A>,
  family: 'IPv4' | 'IPv6',
  { name }: KubeNode,
): C {
  if (cidr === null) {
    throw new FlannelError(
      `node "${name}" has no ${family} pod CIDR; give it one, or set Enable${family} to false in the network config`,
    );
  }
  if (network.length > 0 && isInside(cidr, network)) return cidr;
  const what = family === 'IPv6' ? 'IPv6 PodCIDR' : 'PodCIDR';
  throw new FlannelError(
    `subnet "${network.toString()}" specified in the flannel net config doesn't contain "${cidr.toString()}" ${what} ` +
      `of the "${name}" node; give both the same cluster CIDR`,
  );
}

/** A prefix of the family whose addresses are of type A. */
interface Prefix<A extends Ip> {
  readonly ip: A;
  readonly length: number;
  contains(ip: A): boolean;
  toString(): string;
}

/** Whether the whole of `inner` lies in `outer`. */
export function isInside<A extends Ip>(inner: Prefix<A>, outer: Prefix<A>): boolean {
  return outer.length <= inner.length && outer.contains(inner.ip);
}

/** The lease that a node stands for, or null and why it stands for none. */
export type NodeLease =
  | { readonly subnet: LeaseSubnet; readonly attrs: LeaseAttrs }
  /** `problem` is null where nobody has claimed that it does. */
  | { readonly subnet: null; readonly problem: string | null };

/** Of a node that has a pod CIDR of one of two families, the lease is of that one. */
export function leaseOf(node: KubeNode, names: AnnotationNames, families: Families): NodeLease {
  if (node.annotations[names.manager] !== 'true') return { subnet: null, problem: null };
  try {
    const attrs = announcedBy(node, names, families);
    const { v4, v6 } = podCidrsOf(node);
    const subnet = { v4: families.enableIPv4 ? v4 : null, v6: families.enableIPv6 ? v6 : null };
    if (subnet.v4 !== null || subnet.v6 !== null) return { subnet, attrs };
    const wanted = [families.enableIPv4 && 'IPv4', families.enableIPv6 && 'IPv6'].filter(Boolean);
    return { subnet: null, problem: `it has no ${wanted.join(' or ')} pod CIDR` };
  } catch (error) {
    if (!(error instanceof FlannelError)) throw error;
    return { subnet: null, problem: error.message };
  }
}
