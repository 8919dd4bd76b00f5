/**
 * `node directory-racer.js DIR PUBLIC_IP CIDR...`: says `ready`, waits for the end of its standard input, then
 * tries to create one entry after the other and prints the revision of each that it got.
 */
import { once } from 'node:events';
import { DirectoryRegistry } from '../../src/subnet/directory/registry.js';
import { attrsOf, DAY_SECONDS, forever, subnetOf } from './store.js';

const [dir = '', publicIp = '', ...cidrs] = process.argv.slice(2);
const registry = new DirectoryRegistry(dir);
await registry.list(forever);
process.stdout.write('ready\n');
process.stdin.resume();
await once(process.stdin, 'end');
for (const cidr of cidrs) {
  const lease = await registry.create(subnetOf(cidr), attrsOf(publicIp), DAY_SECONDS, forever);
  if (lease !== null) process.stdout.write(`${lease.revision}\n`);
}
