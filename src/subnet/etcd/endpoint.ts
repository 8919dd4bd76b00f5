import { isIPv4, isIPv6 } from 'node:net';
import { UsageError } from '../../errors.js';

/** The port that etcd listens on for clients unless told otherwise. */
const DEFAULT_PORT = '2379';

/** Where one etcd member listens. */
export interface Endpoint {
  /** For messages: the endpoint without user info, path or query. */
  readonly name: string;
  /** In the name syntax of gRPC, e.g. `ipv4:127.0.0.1:2379`, `dns:etcd-1:2379`, `unix:/run/etcd.sock`. */
  readonly target: string;
  readonly tls: boolean;
  /** The host, where it is an IP address and not a name. */
  readonly address: string | null;
}

/**
 * Reads `http://host:port`, `https://host:port`, `unix:///path`, `unixs:///path` or bare `host:port`.
 * @param tlsByDefault whether a bare endpoint, which names no scheme, is spoken to over TLS
 * @throws UsageError when the text is none of these.
 */
export function parseEndpoint(text: string, tlsByDefault: boolean): Endpoint {
  const match = /^(?:(https?|unixs?):(?:\/\/)?)?(.+)$/i.exec(text.trim());
  const scheme = match?.[1]?.toLowerCase() ?? '';
  const rest = match?.[2] ?? '';
  if (scheme.startsWith('unix')) {
    return { name: `unix:${rest}`, target: `unix:${rest}`, tls: scheme === 'unixs', address: null };
  }
  const authority = rest.replace(/[/?#].*$/s, '').replace(/^.*@/s, '');
  const parts = /^(?:\[([^\]]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(authority);
  const host = parts?.[1] ?? parts?.[2];
  if (host === undefined || rest.includes('://') || (parts?.[1] !== undefined && !isIPv6(host))) {
    // The text is not repeated: it may hold a password in its user info.
    throw new UsageError(
      'an etcd endpoint is not of the form http://host:port, https://host:port, unix:///path or host:port',
    );
  }
  const port = parts?.[3] ?? DEFAULT_PORT;
  const tls = scheme === '' ? tlsByDefault : scheme === 'https';
  const bracketed = isIPv6(host) ? `[${host}]` : host;
  const resolver = isIPv4(host) ? 'ipv4' : isIPv6(host) ? 'ipv6' : 'dns';
  return {
    name: `${tls ? 'https' : 'http'}://${bracketed}:${port}`,
    target: `${resolver}:${bracketed}:${port}`,
    tls,
    address: resolver === 'dns' ? null : host,
  };
}
