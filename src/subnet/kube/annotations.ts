import { FlannelError } from '../../errors.js';

const SUFFIXES = {
  manager: 'kube-subnet-manager',
  backendType: 'backend-type',
  backendData: 'backend-data',
  backendV6Data: 'backend-v6-data',
  publicIp: 'public-ip',
  publicIpV6: 'public-ipv6',
  nodePublicIp: 'node-public-ip',
  nodePublicIpV6: 'node-public-ipv6',
  publicIpOverwrite: 'public-ip-overwrite',
  publicIpV6Overwrite: 'public-ipv6-overwrite',
} as const;

/** The names of the annotations on a node, by what they say. */
export type AnnotationNames = Readonly<Record<keyof typeof SUFFIXES, string>>;

/** A domain of two labels or more, a slash, and what the names begin with. */
const PREFIX = /^(?:[a-z0-9_-]+\.)+[a-z0-9_-]+\/(?:[a-z0-9_-]+-)?$/;

/**
 * The names under `--kube-annotation-prefix`: `org.com` gives `org.com/backend-type`, `org.com/net` gives
 * `org.com/net-backend-type`.
 * @throws FlannelError for a prefix that no annotation can have.
 */
export function annotationNames(prefix: string): AnnotationNames {
  const complete = completed(prefix);
  if (!PREFIX.test(complete)) {
    throw new FlannelError(
      `subnet/kube: prefix is in a wrong format: ${JSON.stringify(prefix)} should be a domain in lower case such as ` +
        'flannel.alpha.coreos.com, or one with a name behind it such as example.com/net (--kube-annotation-prefix)',
    );
  }
  const named = Object.entries(SUFFIXES).map(([key, suffix]) => [key, complete + suffix]);
  return Object.fromEntries(named) as AnnotationNames;
}

function completed(prefix: string): string {
  if (!prefix.includes('/')) return `${prefix}/`;
  return prefix.endsWith('/') || prefix.endsWith('-') ? prefix : `${prefix}-`;
}
