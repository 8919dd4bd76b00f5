/** Targets for what is read from files and from the kernel: garbage is left out, and never an error. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { Attributes, Message, MessageWriter } from '../../../src/netlink/message.js';
import { readAnnouncement } from '../../../src/netlink/rtnetlink.js';
import { formatSubnetKey } from '../../../src/lease/subnet-key.js';
import { DirectoryRegistry } from '../../../src/subnet/directory/registry.js';
import { readPreviousSubnets } from '../../../src/subnet/subnet-file.js';
import { ENV_WORDS, soup } from '../../lib/soup.js';
import type { Target } from '../target.js';

/** In memory where there is such a place: on a disk, making and removing files would be all that a run does. */
const ROOM = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** A folder that goes with the process. */
let folder: string | null = null;
function scratch(): string {
  if (folder === null) {
    const made = mkdtempSync(join(ROOM, 'flannel-fuzz-'));
    process.once('exit', () => {
      rmSync(made, { recursive: true, force: true });
    });
    folder = made;
  }
  return folder;
}

const subnetEnv: Target = {
  name: 'subnet-env',
  property: fc.property(fc.oneof(soup(...ENV_WORDS), fc.uint8Array({ maxLength: 300 })), (content) => {
    const path = join(scratch(), 'subnet.env');
    writeFileSync(path, content);
    const subnet = readPreviousSubnets(path).v4;
    assert(subnet === null || subnet.equals(subnet.network()));
  }),
};

const NAMES = [
  '10.5.1.0-24',
  '10.5.2.0-24',
  '10.5.1.1-24',
  '0.0.0.0-0',
  '10.5.1.0-24&fd00::-64',
  '.tmp',
  'x',
];
const VALUES = [
  '{"PublicIP":"192.168.77.2","PublicIPv6":null}',
  '{"PublicIP":"192.168.77.3","PublicIPv6":null,"BackendData":{"Port":9001}}',
  '{"PublicIP":"1.2.3',
  '',
  'null',
];
const entryName = fc.oneof(
  fc.constantFrom(...NAMES),
  fc.string({ minLength: 1, maxLength: 40, unit: 'binary' }),
);
const entry = fc.record({
  name: entryName.filter((name) => !/[/\0]/.test(name) && name !== '.' && name !== '..'),
  content: fc.oneof(fc.constantFrom(...VALUES), fc.uint8Array({ maxLength: 100 })),
  kind: fc.constantFrom('file', 'file', 'file', 'reservation', 'folder'),
});

/** Names that the file system refuses are no matter of the store. */
function write(path: string, { content, kind }: { content: string | Uint8Array; kind: string }): void {
  try {
    if (kind === 'folder') mkdirSync(path);
    else writeFileSync(path, content, { mode: kind === 'reservation' ? 0o444 : 0o644 });
  } catch {
    // A name too long, or there already.
  }
}

const directory: Target = {
  name: 'directory-store',
  property: fc.asyncProperty(fc.array(entry, { maxLength: 8 }), async (entries) => {
    const dir = mkdtempSync(join(scratch(), 'store-'));
    try {
      mkdirSync(join(dir, 'subnets'));
      for (const one of entries) write(join(dir, 'subnets', one.name), one);
      const registry = new DirectoryRegistry(dir);
      const { signal } = new AbortController();
      const leases = await registry.list(signal);
      const names = leases.map(({ subnet }) => formatSubnetKey(subnet));
      assert.equal(new Set(names).size, names.length);
      const written = new Set(entries.map(({ name }) => name));
      assert(names.every((name) => written.has(name)));
      assert.deepEqual(await registry.expired(signal), []);
      for await (const [first] of registry.watch(signal)) {
        assert(first?.type === 'snapshot');
        assert.equal(first.leases.length, leases.length);
        break; // which also ends the watch
      }
      registry.close();
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  }),
};

const HEADERS = [4, 8, 12, 16];

const netlink: Target = {
  name: 'netlink-message',
  property: fc.property(
    fc.constantFrom(...HEADERS),
    fc.nat({ max: 0xffff }),
    fc.array(fc.tuple(fc.nat({ max: 64 }), fc.uint8Array({ maxLength: 24 })), { maxLength: 6 }),
    fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 4 }),
    fc.nat({ max: 40 }),
    (header, type, attributes, changes, cut) => {
      const writer = new MessageWriter(type, 0, new Uint8Array(header));
      for (const [number, payload] of attributes) writer.attribute(number, payload);
      const whole = Uint8Array.from(writer.finish());
      const message = new Message(whole, header);
      for (const [number, payload] of new Map(attributes)) {
        assert.notEqual(message.bytes(number), undefined);
        if (payload.length !== 4) assert.equal(message.u32(number), undefined);
      }
      for (const [where, value] of changes) whole[where % whole.length] = value;
      // The native part passes on no message shorter than its header and that of the largest family.
      readAll(whole.subarray(0, Math.max(32, whole.length - cut)));
    },
  ),
};

/** Everything that can be asked of a message, whatever is in it. */
function readAll(bytes: Uint8Array): void {
  const attributes = new Attributes(bytes, 16);
  for (let type = 0; type < 64; type++) {
    attributes.u8(type);
    attributes.u32(type);
    attributes.ip4(type);
    attributes.text(type);
    attributes.nested(type)?.nested(type)?.text(type);
  }
  if (bytes.length >= 32) readAnnouncement(bytes);
}

export const FILE_TARGETS: readonly Target[] = [subnetEnv, directory, netlink];
