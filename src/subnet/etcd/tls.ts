import { readFileSync } from 'node:fs';
import { connect, createSecureContext } from 'node:tls';
import { credentials } from '@grpc/grpc-js';
import type { SecureContext } from 'node:tls';
import type { ChannelCredentials } from '@grpc/grpc-js';
import { messageOf, UsageError } from '../../errors.js';
import { log } from '../../log.js';

/** PEM files; an empty name stands for none. */
export interface TlsFiles {
  /** The only roots trusted; the system's when absent. */
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
}

interface Material {
  readonly ca: Buffer | null;
  readonly cert: Buffer | null;
  readonly key: Buffer | null;
}

/** The credentials made of the TLS files, made anew when a file has changed (certificates get rotated). */
export class TlsCredentials {
  private material: Material;
  private readonly made = new Map<string | null, ChannelCredentials>();

  /** @throws UsageError when a file cannot be read. */
  constructor(private readonly files: TlsFiles) {
    if ((files.certFile === '') !== (files.keyFile === '')) {
      log.warning('etcd client certificate is not used: it takes both --etcd-certfile and --etcd-keyfile');
    }
    this.material = this.load();
  }

  /** @param address the server's, where it is known by its IP address instead of a name */
  for(address: string | null): ChannelCredentials {
    const known = this.made.get(address);
    if (known !== undefined) return known;
    const { ca, cert, key } = this.material;
    const made = address === null ? credentials.createSsl(ca, key, cert) : forAddress(this.material, address);
    this.made.set(address, made);
    return made;
  }

  /** Reads the files again; true when they hold something else now. Unreadable files change nothing. */
  refresh(): boolean {
    try {
      const next = this.load();
      if (
        same(next.ca, this.material.ca) &&
        same(next.cert, this.material.cert) &&
        same(next.key, this.material.key)
      )
        return false;
      this.material = next;
      this.made.clear();
      return true;
    } catch (error) {
      log.v(1).info(`keeping the former TLS files: ${messageOf(error)}`);
      return false;
    }
  }

  private load(): Material {
    const { caFile, certFile, keyFile } = this.files;
    const pair = certFile !== '' && keyFile !== '';
    const material = {
      ca: caFile === '' ? null : read('--etcd-cafile', caFile),
      cert: pair ? read('--etcd-certfile', certFile) : null,
      key: pair ? read('--etcd-keyfile', keyFile) : null,
    };
    try {
      contextOf(material);
    } catch (error) {
      // Half written, or a new certificate whose key is still to come, when somebody is just rotating them.
      throw new UsageError(
        `the files of --etcd-cafile, --etcd-certfile and --etcd-keyfile do not make a TLS client: ` +
          `${messageOf(error)}; give PEM files, and the key that belongs to the certificate`,
      );
    }
    return material;
  }
}

/**
 * Credentials that verify the server's certificate against its IP address and name no server in the handshake. grpc-js
 * would name the address there, which RFC 6066 (section 3) forbids and Node warns of (DEP0123).
 */
function forAddress(material: Material, host: string): ChannelCredentials {
  const secureContext = contextOf(material);
  const made = credentials.createFromSecureContext(secureContext);
  const createConnector = made._createSecureConnector.bind(made);
  made._createSecureConnector = (...args) => {
    const connector = createConnector(...args);
    connector.connect = (socket) =>
      new Promise((resolve, reject) => {
        // Rejects what it cannot verify (the default); with no servername, `host` is what it verifies.
        const secured = connect({ socket, host, secureContext, ALPNProtocols: ['h2'] }, () => {
          resolve({ socket: secured, secure: true });
        });
        secured.on('error', reject);
      });
    return connector;
  };
  return made;
}

/** @throws Error of OpenSSL for what is no PEM, or for a key that belongs to another certificate. */
function contextOf({ ca, cert, key }: Material): SecureContext {
  return createSecureContext({ ca: ca ?? undefined, cert: cert ?? undefined, key: key ?? undefined });
}

function read(flag: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new UsageError(`${flag} cannot be read: ${messageOf(error)}`);
  }
}

function same(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b);
}
