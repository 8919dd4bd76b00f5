/** PEM files of certificates and their keys, `<name>.crt` and `<name>.key` in one folder, made with openssl. */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
const VALIDITY = ['-days', '2'];

export class Certificates {
  constructor(private readonly folder: string) {}

  file(name: string): string {
    return join(this.folder, name);
  }

  /** An authority, which vouches for itself. */
  async authority(name: string): Promise<void> {
    await run('openssl', ['req', '-x509', ...NEW_KEY, ...VALIDITY, ...this.about(name, 'crt')]);
  }

  /** Signed by an authority, good for a server at `address` and for a client. */
  async signedBy(authority: string, name: string, address = '127.0.0.1'): Promise<void> {
    await run('openssl', ['req', '-new', ...NEW_KEY, ...this.about(name, 'csr')]);
    const extensions = `subjectAltName=IP:${address},DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n`;
    await writeFile(this.file('ext'), extensions);
    await run('openssl', [
      ...['x509', '-req', '-in', this.file(`${name}.csr`), '-out', this.file(`${name}.crt`), ...VALIDITY],
      ...['-CA', this.file(`${authority}.crt`), '-CAkey', this.file(`${authority}.key`), '-CAcreateserial'],
      ...['-extfile', this.file('ext')],
    ]);
  }

  private about(name: string, suffix: 'crt' | 'csr'): string[] {
    return [
      '-subj',
      `/CN=${name}`,
      '-keyout',
      this.file(`${name}.key`),
      '-out',
      this.file(`${name}.${suffix}`),
    ];
  }
}
