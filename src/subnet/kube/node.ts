/** What of a Kubernetes node matters here: its subnets, what its flanneld announces, and one condition. */
import type { NetworkConfig } from '../../config.js';
import { FlannelError } from '../../errors.js';
import { Cidr4, formatIp4, parseIp4 } from '../../ip.js';
import { canonicalIp6, Cidr6 } from '../../ip6.js';
import type { LeaseAttrs, LeaseSubnet } from '../../lease/lease.js';
import type { AnnotationNames } from './annotations.js';
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

/** The pod CIDR of each family. */
export interface PodCidrs {
  readonly v4: Cidr4 | null;
  readonly v6: Cidr6 | null;
}

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
 * What this host gets out of its node: the pod CIDRs, which must lie in the network.
 * @throws FlannelError with flannel's own words.
 */
export function subnetOf(node: KubeNode, config: Pick<NetworkConfig, 'network' | 'enableIPv6'>): LeaseSubnet {
  if (node.podCidrs.length === 0) {
    throw new FlannelError(
      `node "${node.name}" pod cidr not assigned; start kube-controller-manager with --allocate-node-cidrs and ` +
        '--cluster-cidr (kubeadm: --pod-network-cidr), or set the podCIDR of the node',
    );
  }
  const { v4, v6 } = podCidrsOf(node);
  if (v4 === null) throw new FlannelError(`node "${node.name}" has no IPv4 pod CIDR`);
  const { network } = config;
  if (network.size() === 2 ** 32 || !isInside(v4, network)) {
    throw new FlannelError(
      `subnet "${network.toString()}" specified in the flannel net config doesn't contain "${v4.toString()}" PodCIDR ` +
        `of the "${node.name}" node; give both the same cluster CIDR`,
    );
  }
  return { v4, v6: config.enableIPv6 ? v6 : null };
}

/** Whether the whole of `inner` lies in `outer`. */
export function isInside(inner: Cidr4, outer: Cidr4): boolean {
  return outer.length <= inner.length && outer.contains(inner.ip);
}

/** The lease that a node stands for, or null and why it stands for none. */
export type NodeLease =
  | { readonly subnet: LeaseSubnet; readonly attrs: LeaseAttrs }
  /** `problem` is null where nobody has claimed that it does. */
  | { readonly subnet: null; readonly problem: string | null };

export function leaseOf(
  node: KubeNode,
  names: AnnotationNames,
  { enableIPv6 }: Pick<NetworkConfig, 'enableIPv6'>,
): NodeLease {
  if (node.annotations[names.manager] !== 'true') return { subnet: null, problem: null };
  const attrs = announcedBy(node, names);
  if (attrs === null) {
    const shown = JSON.stringify(node.annotations[names.publicIp] ?? null);
    return {
      subnet: null,
      problem: `its annotation ${names.publicIp} is ${shown}, which is no IPv4 address`,
    };
  }
  try {
    const { v4, v6 } = podCidrsOf(node);
    if (v4 === null) return { subnet: null, problem: 'it has no IPv4 pod CIDR' };
    return { subnet: { v4, v6: enableIPv6 ? v6 : null }, attrs };
  } catch (error) {
    if (!(error instanceof FlannelError)) throw error;
    return { subnet: null, problem: error.message };
  }
}

/** What the annotations say; null without a public IP. */
function announcedBy({ annotations }: KubeNode, names: AnnotationNames): LeaseAttrs | null {
  const publicIp = parseIp4(textOf(annotations[names.publicIp]));
  if (publicIp === undefined) return null;
  return {
    publicIp,
    publicIpV6: canonicalIp6(textOf(annotations[names.publicIpV6])) ?? null,
    backendType: textOf(annotations[names.backendType]),
    backendData: dataOf(annotations[names.backendData]),
    backendV6Data: dataOf(annotations[names.backendV6Data]),
  };
}

/** Raw JSON; the text `null` where a backend has none. */
function dataOf(value: unknown): string | null {
  const text = textOf(value);
  return text === '' || text === 'null' ? null : text;
}

/** The annotations that make others see `attrs`. An operator's overwrites take precedence, whatever they are. */
export function annotationsFor(
  attrs: LeaseAttrs,
  node: KubeNode,
  names: AnnotationNames,
): Readonly<Record<string, string>> {
  const overwrite = textOf(node.annotations[names.publicIpOverwrite]);
  const wanted: Record<string, string> = {
    [names.manager]: 'true',
    [names.backendType]: attrs.backendType,
    [names.backendData]: attrs.backendData ?? 'null',
    [names.publicIp]: overwrite === '' ? formatIp4(attrs.publicIp) : overwrite,
  };
  if (attrs.publicIpV6 !== null) {
    const overwriteV6 = textOf(node.annotations[names.publicIpV6Overwrite]);
    wanted[names.backendV6Data] = attrs.backendV6Data ?? 'null';
    wanted[names.publicIpV6] = overwriteV6 === '' ? attrs.publicIpV6 : overwriteV6;
  }
  return wanted;
}

/** Whether the node has all of these annotations. */
export function hasAnnotations({ annotations }: KubeNode, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([name, value]) => annotations[name] === value);
}
