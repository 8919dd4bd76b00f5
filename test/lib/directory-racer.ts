/**
 * `node directory-racer.js DIR PUBLIC_IP CIDR...`: says `ready`, reads from its standard input when the race
 * starts (milliseconds since the epoch), then tries to create one entry every few milliseconds, so that racers with one
 * start meet at each of them, and prints the revision of each that it got.
 */
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { DirectoryRegistry } from '../../src/subnet/directory/registry.js';
import { attrsOf, DAY_SECONDS, forever, subnetOf } from './store.js';

const [dir = '', publicIp = '', ...cidrs] = process.argv.slice(2);
const registry = new DirectoryRegistry(dir);
await registry.list(forever);
process.stdout.write('ready\n');
const ROUND_MS = 10;
const start = Number(await text(process.stdin));
for (const [round, cidr] of cidrs.entries()) {
  await delay(start + round * ROUND_MS - Date.now());
  const lease = await registry.create(subnetOf(cidr), attrsOf(publicIp), DAY_SECONDS, forever);
  if (lease !== null) process.stdout.write(`${lease.revision}\n`);
}
