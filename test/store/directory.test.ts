import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import {
  chmod,
  link,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, afterEach, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ConfigError, LeaseError, StoreUnavailableError } from '../../src/errors.js';
import { formatSubnetKey } from '../../src/lease/subnet-key.js';
import { DirectoryRegistry } from '../../src/subnet/directory/registry.js';
import { LocalManager } from '../../src/subnet/local-manager.js';
import { eventually } from '../lib/eventually.js';
import { conformance } from '../lib/store-conformance.js';
import type { TestStore } from '../lib/store-conformance.js';
import {
  attrsOf,
  captureLog,
  DAY_SECONDS,
  forever,
  stopWatches,
  subnetOf,
  WatchTable,
} from '../lib/store.js';

const run = promisify(execFile);
const VALUE = '{"PublicIP":"192.168.0.1","PublicIPv6":null}';

const root = await mkdtemp(join(tmpdir(), 'directory-test-'));
after(() => rm(root, { recursive: true, force: true }));

async function put(dir: string, name: string, value: string, reservation = false): Promise<void> {
  // Beside the folder first, as an editor would do it: readers must not see half a value.
  const staged = join(dir, 'staged');
  await writeFile(staged, value);
  if (reservation) await chmod(staged, 0o444);
  await rename(staged, join(dir, 'subnets', name));
}

/** Makes an entry as old as that. */
async function age(path: string, seconds: number): Promise<void> {
  const then = Date.now() / 1000 - seconds;
  await utimes(path, then, then);
}

/** Has processes take the entries, in one order (who loses catches up, so they stay abreast); the revisions that each of them got. */
async function race(dir: string, processes: number, cidrs: readonly string[]): Promise<string[][]> {
  const script = fileURLToPath(new URL('../lib/directory-racer.js', import.meta.url));
  const racers = Array.from({ length: processes }, (_, i) => {
    const child = spawn(process.execPath, [script, dir, `192.168.1.${i + 1}`, ...cidrs], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    return { child, lines: createInterface(child.stdout)[Symbol.asyncIterator]() };
  });
  for (const { lines } of racers) assert.equal((await lines.next()).value, 'ready');
  const start = String(Date.now() + 50);
  for (const { child } of racers) child.stdin.end(start);
  return Promise.all(racers.map(({ lines }) => collect(lines)));
}

async function collect(lines: AsyncIterableIterator<string>): Promise<string[]> {
  const all: string[] = [];
  for await (const line of lines) all.push(line);
  return all;
}

conformance('directory', async () => {
  const dir = await mkdtemp(join(root, 'store-'));
  await mkdir(join(dir, 'subnets'));
  const store: TestStore = {
    registry: () => new DirectoryRegistry(dir),
    putConfig: (text) => writeFile(join(dir, 'config'), text),
    put: (name, value, reservation) => put(dir, name, value, reservation),
    delete: (name) => rm(join(dir, 'subnets', name), { force: true }),
    read: (name) => readFile(join(dir, 'subnets', name), 'utf8'),
    close: async () => {
      const left = (await readdir(join(dir, 'subnets'))).filter((name) => name.startsWith('.'));
      assert.deepEqual(left, [], 'nothing is left behind');
      await rm(dir, { recursive: true });
    },
  };
  return store;
});

describe('directory', () => {
  let dir: string;
  let subnets: string;
  let registry: DirectoryRegistry;
  beforeEach(async () => {
    captureLog();
    dir = join(await mkdtemp(join(root, 'case-')), 'made', 'here');
    subnets = join(dir, 'subnets');
    registry = new DirectoryRegistry(dir);
  });
  afterEach(async () => {
    await stopWatches();
    await rm(join(dir, '../..'), { recursive: true, force: true });
  });

  const keys = async (): Promise<string[]> =>
    (await registry.list(forever)).map(({ subnet }) => formatSubnetKey(subnet));

  it('makes the folder, and says which file to write there', async () => {
    await assert.rejects(registry.readConfig(forever), (error: Error) => {
      assert.ok(error instanceof ConfigError);
      assert.ok(error.message.includes(`echo '{"Network":"10.244.0.0/16"}' > ${dir}/config`));
      return true;
    });
    assert.deepEqual(await readdir(dir), ['subnets']);
  });

  it('gives away subnets that were never used first, then those that ran out longest ago', async () => {
    await registry.readConfig(forever).catch(() => undefined); // Makes the folder.
    await writeFile(join(dir, 'config'), '{"Network":"10.5.0.0/24","SubnetLen":26}');
    for (const [name, ip, seconds] of [
      ['10.5.0.64-26', '192.168.0.1', 2 * DAY_SECONDS],
      ['10.5.0.128-26', '192.168.0.2', 3 * DAY_SECONDS],
    ] as const) {
      await put(dir, name, `{"PublicIP":"${ip}","PublicIPv6":null}`);
      await age(join(subnets, name), seconds);
    }
    const acquire = async (ip: string): Promise<string> => {
      const { subnet } = await new LocalManager(registry, 'Test', null).acquireLease(attrsOf(ip), forever);
      return formatSubnetKey(subnet);
    };
    assert.equal(await acquire('192.168.0.7'), '10.5.0.192-26', 'never used');
    assert.equal(await acquire('192.168.0.8'), '10.5.0.128-26', 'out of use for longest');
    assert.equal(await acquire('192.168.0.9'), '10.5.0.64-26');
  });

  it('gives a host that comes back the subnet that ran out meanwhile', async () => {
    await registry.readConfig(forever).catch(() => undefined);
    await writeFile(join(dir, 'config'), '{"Network":"10.5.0.0/16"}');
    const host = new LocalManager(registry, 'Test', null);
    const { subnet } = await host.acquireLease(attrsOf('192.168.0.1'), forever);
    await age(join(subnets, formatSubnetKey(subnet)), DAY_SECONDS + 60);
    const again = await host.acquireLease(attrsOf('192.168.0.1'), forever);
    assert.deepEqual(again.subnet, subnet);
    await age(join(subnets, formatSubnetKey(subnet)), DAY_SECONDS + 60);
    await registry.create(subnet, attrsOf('192.168.0.2'), DAY_SECONDS, forever);
    const other = await host.acquireLease(attrsOf('192.168.0.1'), forever);
    assert.notDeepEqual(other.subnet, subnet);
  });

  it('tells how it is doing', async () => {
    const before = registry.health;
    assert.deepEqual([before.reachable, before.hasTable], [false, false]);
    await registry.readConfig(forever).catch(() => undefined);
    const table = new WatchTable(registry);
    await eventually(() => registry.health.reachable && registry.health.hasTable);
    await rename(subnets, join(dir, 'elsewhere'));
    await eventually(() => !registry.health.reachable && registry.health.lastError !== null);
    await rename(join(dir, 'elsewhere'), subnets);
    await eventually(() => registry.health.reachable);
    await table.stop();
  });

  it('lets an entry run out 24 h after its mtime', async () => {
    await registry.create(subnetOf('10.5.1.0/24'), attrsOf('192.168.0.1'), DAY_SECONDS, forever);
    const path = join(subnets, '10.5.1.0-24');
    assert.ok(Math.abs((await stat(path)).mtimeMs - Date.now()) < 5_000);
    await age(path, DAY_SECONDS - 60);
    assert.deepEqual(await keys(), ['10.5.1.0-24']);
    await age(path, DAY_SECONDS + 1);
    assert.deepEqual(await keys(), []);
    await chmod(path, 0o444);
    assert.deepEqual(await keys(), ['10.5.1.0-24'], 'but not a reservation');
  });

  it('tells a watch that time has passed', async () => {
    const table = new WatchTable(registry);
    await registry.create(subnetOf('10.5.1.0/24'), attrsOf('192.168.0.1'), 5, forever);
    await table.becomes(['10.5.1.0-24 192.168.0.1']);
    await table.becomes([]);
    await table.stop();
  });

  it('is survived by a watch: deleted, made again', async () => {
    const lines = captureLog();
    await registry.create(subnetOf('10.5.1.0/24'), attrsOf('192.168.0.1'), DAY_SECONDS, forever);
    const table = new WatchTable(registry);
    await table.becomes(['10.5.1.0-24 192.168.0.1']);
    await rename(dir, `${dir}-away`);
    await assert.rejects(registry.list(forever), StoreUnavailableError);
    await assert.rejects(
      registry.create(subnetOf('10.5.9.0/24'), attrsOf('192.168.0.9'), DAY_SECONDS, forever),
      StoreUnavailableError,
    );
    await mkdir(subnets, { recursive: true });
    await put(dir, '10.5.2.0-24', VALUE);
    await table.becomes(['10.5.2.0-24 192.168.0.1']);
    // inotify has to be back as well: at some time, two changes are seen within less than two rescans.
    const rows = ['10.5.2.0-24 192.168.0.1'];
    await eventually(async () => {
      const started = Date.now();
      for (let changes = 0; changes < 2; changes++) {
        const third = rows.length + 2;
        await put(dir, `10.5.${third}.0-24`, VALUE);
        rows.push(`10.5.${third}.0-24 192.168.0.1`);
        await table.becomes(rows);
      }
      assert.ok(Date.now() - started < 900, `${Date.now() - started} ms`);
    });
    await table.stop();
    assert.ok(lines.filter((line) => line.includes('lost the lease directory')).length <= 1);
  });

  it('is read where it cannot be written', async () => {
    await mkdir(subnets, { recursive: true });
    await put(dir, '10.5.1.0-24', VALUE, true);
    await symlink('10.5.1.0-24', join(subnets, '10.5.2.0-24'));
    await mkdir(join(subnets, '10.5.3.0-24'));
    await run('mkfifo', [join(subnets, '10.5.4.0-24')]);
    assert.deepEqual((await keys()).sort(), ['10.5.1.0-24', '10.5.2.0-24']);
    for (const blocked of ['10.5.3.0/24', '10.5.4.0/24']) {
      assert.equal(await registry.create(subnetOf(blocked), attrsOf('192.168.0.3'), 9, forever), null);
    }
  });

  it('gives an expired entry to exactly one of many', async () => {
    await mkdir(subnets, { recursive: true });
    for (let round = 0; round < 10; round++) {
      await put(dir, '10.5.1.0-24', VALUE);
      await age(join(subnets, '10.5.1.0-24'), DAY_SECONDS + 5);
      const taken = await Promise.all(
        Array.from({ length: 16 }, (_, i) =>
          new DirectoryRegistry(dir).create(
            subnetOf('10.5.1.0/24'),
            attrsOf(`192.168.1.${i + 1}`),
            DAY_SECONDS,
            forever,
          ),
        ),
      );
      const won = taken.filter((lease) => lease !== null);
      assert.equal(won.length, 1);
      assert.equal((await registry.list(forever))[0]?.revision, won[0]?.revision);
    }
    assert.deepEqual(await readdir(subnets), ['10.5.1.0-24']);
  });

  it('gives an expired entry to exactly one of 8 processes, 40 times over', async () => {
    await mkdir(subnets, { recursive: true });
    const rounds = Array.from({ length: 40 }, (_, i) => `10.5.${i + 1}.0/24`);
    for (const cidr of rounds) {
      const name = cidr.replace('/', '-');
      await put(dir, name, VALUE);
      await age(join(subnets, name), DAY_SECONDS + 5);
    }
    const outputs = await race(dir, 8, rounds);
    const won = outputs.flat().sort();
    const stored = (await registry.list(forever)).map(({ revision }) => revision).sort();
    assert.equal(won.length, rounds.length, 'each entry has one new owner');
    assert.deepEqual(won, stored, 'and it is the one whose entry stands');
    assert.ok(outputs.filter((revisions) => revisions.length > 0).length > 1, 'they did compete');
  });

  it('does not let an owner renew what another has taken over', async () => {
    const subnet = subnetOf('10.5.1.0/24');
    const manager = new LocalManager(registry, 'Directory', null);
    const mine = await registry.create(subnet, attrsOf('192.168.0.1'), DAY_SECONDS, forever);
    assert.ok(mine);
    await age(join(subnets, '10.5.1.0-24'), DAY_SECONDS + 5);
    const theirs = await registry.create(subnet, attrsOf('192.168.0.2'), DAY_SECONDS, forever);
    assert.ok(theirs);
    await assert.rejects(manager.renewLease(mine, forever), (error: Error) => {
      assert.ok(error instanceof LeaseError && error.message.includes('192.168.0.2'));
      return true;
    });
    assert.ok(await registry.update(subnet, theirs.attrs, theirs.revision, DAY_SECONDS, forever));
  });

  describe('after a crash', () => {
    const subnet = subnetOf('10.5.1.0/24');
    const entry = '10.5.1.0-24';

    it('between staging, linking and tidying up', async () => {
      const lease = await registry.create(subnet, attrsOf('192.168.0.1'), DAY_SECONDS, forever);
      assert.ok(lease);
      await writeFile(join(subnets, '.tmp-half'), '{"Pub');
      await link(join(subnets, entry), join(subnets, '.tmp-linked'));
      await mkdir(join(subnets, '.tmp-folder'));
      await mkdir(join(subnets, `.next-${entry}@${lease.revision}`));
      const lines = captureLog();
      assert.deepEqual(await keys(), [entry]);
      assert.deepEqual(lines, [], 'readers do not mention leftovers');
      const renewed = await registry.update(subnet, lease.attrs, lease.revision, DAY_SECONDS, forever);
      assert.ok(renewed, 'an empty slot holds nobody up');
    });

    it('while holding the slot of an entry', { timeout: 120_000 }, async () => {
      const lease = await registry.create(subnet, attrsOf('192.168.0.1'), DAY_SECONDS, forever);
      assert.ok(lease);
      const slot = join(subnets, `.next-${entry}@${lease.revision}`);
      await mkdir(slot);
      await writeFile(join(slot, '.tmp-dead'), VALUE);
      const rivals = await Promise.all(
        Array.from({ length: 4 }, () =>
          new DirectoryRegistry(dir).update(subnet, lease.attrs, lease.revision, DAY_SECONDS, forever),
        ),
      );
      assert.equal(rivals.filter((won) => won !== null).length, 1);
      assert.deepEqual(await readdir(subnets), [entry]);
      // Were it only asleep, it would find on waking that its swap has come to nothing.
      await assert.rejects(rename(join(slot, '.tmp-dead'), join(subnets, entry)), { code: 'ENOENT' });
    });
  });
});
