import { readFileSync } from 'node:fs';
import { credentials } from '@grpc/grpc-js';
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
  private made: ChannelCredentials | null = null;

  /** @throws UsageError when a file cannot be read. */
  constructor(private readonly files: TlsFiles) {
    if ((files.certFile === '') !== (files.keyFile === '')) {
      log.warning('etcd client certificate is not used: it takes both --etcd-certfile and --etcd-keyfile');
    }
    this.material = this.load();
  }

  get current(): ChannelCredentials {
    const { ca, cert, key } = this.material;
    this.made ??= credentials.createSsl(ca, key, cert);
    return this.made;
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
      this.made = null;
      return true;
    } catch (error) {
      log.v(1).info(`keeping the former TLS files: ${messageOf(error)}`);
      return false;
    }
  }

  private load(): Material {
    const { caFile, certFile, keyFile } = this.files;
    const pair = certFile !== '' && keyFile !== '';
    return {
      ca: caFile === '' ? null : read('--etcd-cafile', caFile),
      cert: pair ? read('--etcd-certfile', certFile) : null,
      key: pair ? read('--etcd-keyfile', keyFile) : null,
    };
  }
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
