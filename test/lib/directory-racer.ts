/**
 * `node directory-racer.js DIR PUBLIC_IP START_MS CIDR...`: tries to create each entry, all at once, from
 * START_MS (milliseconds since the epoch) on, and prints the revision of each that it got.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { DirectoryRegistry } from '../../src/subnet/directory/registry.js';
import { attrsOf, DAY_SECONDS, forever, subnetOf } from './store.js';

const [dir = '', publicIp = '', start = '', ...cidrs] = process.argv.slice(2);
const registry = new DirectoryRegistry(dir);
await registry.list(forever);
await delay(Number(start) - Date.now());
const attempts = cidrs.map((cidr) =>
  registry.create(subnetOf(cidr), attrsOf(publicIp), DAY_SECONDS, forever),
);
for (const lease of await Promise.all(attempts)) {
  if (lease !== null) process.stdout.write(`${lease.revision}\n`);
}
