/** How an API server is reached, and who this host is to it. */
import { readFile } from 'node:fs/promises';
import { FlannelError, messageOf } from '../../errors.js';

/** A client certificate with its key, PEM. */
export interface ClientCertificate {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** What a TLS connection is made with. */
export interface TlsMaterial {
  /** The only roots trusted, PEM; the system's where null. */
  readonly ca: Buffer | null;
  readonly certificate: ClientCertificate | null;
  /** The name that the server's certificate is checked for; its address where null. */
  readonly serverName: string | null;
  /** Any certificate will do. */
  readonly insecure: boolean;
}

/** Who this host is. Asked for each connection and each request, so that what is rotated is in use at once. */
export interface Identity {
  /** The value of the header `authorization`, or null. */
  authorization(): Promise<string | null>;
  certificate(): Promise<ClientCertificate | null>;
  /** The server does not accept what it was given last: the next call is to give something new, if there is any. */
  rejected(): void;
}

/** A server and an identity. */
export interface ClusterAccess {
  readonly server: URL;
  readonly identity: Identity;
  /** Read anew for each connection. @throws FlannelError for a file that cannot be read. */
  readonly tls: () => Promise<TlsMaterial>;
}

/** PEM, or whatever else it is: at hand, or in a file that may be replaced. Null is none. */
export type Source = { readonly data: Buffer } | { readonly file: string } | null;

/** @throws FlannelError that names the file. */
export async function readSource(source: Source, what: string): Promise<Buffer | null> {
  if (source === null) return null;
  if ('data' in source) return source.data;
  try {
    return await readFile(source.file);
  } catch (error) {
    throw new FlannelError(`cannot read ${what}: ${messageOf(error)}`);
  }
}

/** A token, a client certificate, both or neither. */
export class FixedIdentity implements Identity {
  constructor(
    private readonly token: Source,
    private readonly cert: Source,
    private readonly key: Source,
  ) {}

  async authorization(): Promise<string | null> {
    const token = await readSource(this.token, 'the token');
    return token === null ? null : `Bearer ${token.toString().trim()}`;
  }

  async certificate(): Promise<ClientCertificate | null> {
    const cert = await readSource(this.cert, 'the client certificate');
    const key = await readSource(this.key, "the client certificate's key");
    return cert === null || key === null ? null : { cert, key };
  }

  /** The files are read each time as it is. */
  rejected(): void {
    return;
  }
}

/** Whoever asks. */
export const ANONYMOUS: Identity = new FixedIdentity(null, null, null);

/** Parses the URL of an API server. @throws FlannelError */
export function parseServer(text: string, what: string): URL {
  try {
    // A bare host gets http, as Kubernetes' own clients have it.
    const url = new URL(/^[a-z]+:\/\//i.test(text) ? text : `http://${text}`);
    if (['http:', 'https:'].includes(url.protocol)) return url;
  } catch {
    // Said below.
  }
  throw new FlannelError(
    `${what} is no URL of an API server: ${JSON.stringify(text)}; write https://HOST:PORT`,
  );
}
