/** This host's clock against the store's. */
import { randomBytes } from 'node:crypto';
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { join } from 'node:path';
import { FlannelError, messageOf } from '../errors.js';
import type { Options } from '../flags.js';
import { parseEndpoint } from '../subnet/etcd/endpoint.js';
import { ok, skipped, warning } from './finding.js';
import type { Finding } from './finding.js';
import type { Observed } from './observe.js';

const NOTEWORTHY_MS = 5000;
const ANSWER_MS = 3000;

/** How far ahead of this host's clock the store's is, in milliseconds; or why that is not known. */
type Reading = { readonly aheadMs: number } | { readonly problem: string };

export async function checkClock({ options, store }: Observed): Promise<Finding> {
  const id = 'clock';
  if (store.problem !== null) return skipped(id, 'the store, whose clock is the measure, does not answer');
  if (store.kind === 'Kubernetes') return skipped(id, 'the Kubernetes API is not asked for its time');
  const reading = store.kind === 'etcd' ? await readEtcd(options) : readDirectory(options.subnetDir);
  if ('problem' in reading) return skipped(id, `the clock of the store cannot be read: ${reading.problem}`);
  const seconds = (Math.abs(reading.aheadMs) / 1000).toFixed(0);
  if (Math.abs(reading.aheadMs) < NOTEWORTHY_MS) return ok(id, "agrees with the store's");
  return warning(
    id,
    `this host's clock is ${seconds} s ${reading.aheadMs > 0 ? 'behind' : 'ahead of'} the store's`,
    'expiry times in the log are wrong, TLS certificates may seem invalid, and logs of hosts do not fit together',
    'timedatectl set-ntp true; where a time service runs already: chronyc makestep',
  );
}

/** By the time that the file system gives to a new file. */
function readDirectory(folder: string): Reading {
  const file = join(folder, `.flanneld-doctor-${randomBytes(6).toString('hex')}`);
  try {
    writeFileSync(file, '', { flag: 'wx' });
    return { aheadMs: statSync(file).mtimeMs - Date.now() };
  } catch (error) {
    return { problem: messageOf(error) };
  } finally {
    rmSync(file, { force: true });
  }
}

/** Answers of etcd's own protocol carry no time; those of its HTTP side, on the same port, do. */
async function readEtcd(options: Options): Promise<Reading> {
  const problems: string[] = [];
  for (const text of options.etcdEndpoints.split(',')) {
    try {
      const { name } = parseEndpoint(text, options.etcdCafile !== '');
      return { aheadMs: (await dateOf(`${name}/version`, options)) - Date.now() };
    } catch (error) {
      problems.push(messageOf(error));
    }
  }
  return { problem: problems.join('; ') };
}

/** The Date of an answer, which counts whole seconds. */
function dateOf(url: string, options: Options): Promise<number> {
  return new Promise((resolve, reject) => {
    if (!/^https?:/.test(url)) throw new FlannelError(`${url} is no HTTP address`);
    const timeout = { signal: AbortSignal.timeout(ANSWER_MS) };
    const request = url.startsWith('https:')
      ? requestHttps(url, { ...timeout, ...tlsFiles(options) })
      : requestHttp(url, timeout);
    request.once('error', reject);
    request.once('response', (response) => {
      response.resume();
      const date = Date.parse(response.headers.date ?? '');
      if (Number.isNaN(date)) reject(new FlannelError(`${url} told no time`));
      else resolve(date + 500);
    });
    request.end();
  });
}

function tlsFiles({ etcdCafile, etcdCertfile, etcdKeyfile }: Options): Record<string, Buffer> {
  const files = { ca: etcdCafile, cert: etcdCertfile, key: etcdKeyfile };
  return Object.fromEntries(
    Object.entries(files).flatMap(([name, file]) => (file === '' ? [] : [[name, readFileSync(file)]])),
  );
}
