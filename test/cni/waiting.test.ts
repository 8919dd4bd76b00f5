/** What the plugin says while the flanneld of its host waits, and what for. */
import assert from 'node:assert/strict';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { CONFIG, TestNetwork } from '../lib/network.js';
import { PluginError } from './cnitool.js';
import { Pods, pluginConf } from './pods.js';

const PATIENCE_MS = 30_000;

let network: TestNetwork;
let pods: Pods;
before(async () => {
  network = await TestNetwork.create(1);
  pods = await Pods.on(network.host(1), network.folder);
});
afterEach(async () => {
  await network.stopAll();
  await pods.close();
  await rm(leases(), { recursive: true, force: true });
  await mkdir(leases());
  await rm(subnetFile(), { recursive: true, force: true });
  await network.configure(CONFIG);
});
after(async () => {
  await network.close();
});

const leases = () => join(network.store, 'subnets');
const subnetFile = () => join(network.folder, 'host1.env');
const status = () => pods.tool.ask('STATUS', pluginConf(pods.network));

/** What ADD and STATUS fail with; how long a container waits for it goes to the record. */
async function refusals(t: TestContext): Promise<{ add: PluginError; status: PluginError }> {
  const refusalOf = async (name: string, action: () => Promise<unknown>) => {
    const start = performance.now();
    const error: unknown = await action().then(
      () => null,
      (reason: unknown) => reason,
    );
    t.diagnostic(`${name} answered in ${Math.round(performance.now() - start)} ms`);
    assert.ok(error instanceof PluginError, String(error));
    return error;
  };
  try {
    return {
      add: await refusalOf('ADD', () => pods.create('early')),
      status: await refusalOf('STATUS', status),
    };
  } finally {
    await pods.delete('early');
  }
}

describe('while flanneld waits, ADD and STATUS say what for:', () => {
  const cases: readonly {
    readonly name: string;
    readonly make: () => Promise<unknown>;
    readonly flags?: readonly string[];
    readonly waits: RegExp;
    /** What flanneld itself says. */
    readonly says: RegExp;
    readonly code?: number;
  }[] = [
    {
      name: 'a network config',
      make: () => rm(join(network.store, 'config')),
      waits: /Couldn't fetch network config: /,
      says: /phase failed: waiting for the network config: flannel config not found: .*store/,
    },
    {
      name: 'a network config that makes sense',
      make: () => network.configure({ Network: '10.244.0.0/16', SubnetLen: '24' }),
      waits: /Couldn't fetch network config: /,
      says: /phase failed: waiting for the network config: .*SubnetLen is "24", expected a whole number/,
    },
    {
      name: 'a store that answers',
      make: () => Promise.resolve(),
      flags: ['--etcd-endpoints=http://user:swordfish@192.168.77.1:1'],
      waits: /Couldn't fetch network config: /,
      says: /store failed: away since .*: etcd at http:\/\/.*192\.168\.77\.1:1: .*phase failed: waiting for the network config: /,
    },
    {
      name: 'a directory of leases',
      make: async () => {
        await rm(leases(), { recursive: true });
        await writeFile(leases(), '');
      },
      waits: /Couldn't fetch network config: /,
      says: /phase failed: waiting for the network config: lease directory: .*subnets/,
    },
    {
      name: 'a subnet file that can be written',
      make: () => mkdir(subnetFile()),
      waits: /Failed to write subnet file/,
      says: /subnet-file failed: cannot write .*host1\.env/,
      code: 999, // it is there, and no file
    },
  ];
  for (const { name, make, flags = [], waits, says, code = 11 } of cases) {
    test(name, async (t) => {
      await make();
      await network.start(1, ...flags).logged(waits, PATIENCE_MS);
      const { add, status: asked } = await refusals(t);
      assert.deepEqual([add.code, asked.code], [code, 50]);
      assert.match(add.message, /failed to load flannel 'subnet\.env' file: .*host1\.env/);
      for (const { details } of [add, asked]) {
        assert.match(details, /^flanneld says: /);
        assert.match(details, says);
        assert.doesNotMatch(details, /swordfish/);
      }
    });
  }
});

test('what it waited for is there: pods can be added', async () => {
  await rm(join(network.store, 'config'));
  const daemon = network.start(1);
  await daemon.logged(/Couldn't fetch network config/, PATIENCE_MS);
  await network.configure(CONFIG);
  await daemon.logged(/flannel is ready/, PATIENCE_MS);
  assert.equal(await status(), '');
  await pods.create('late');
  await pods.delete('late');
});

test('a flanneld that was killed: STATUS says so, and pods can still be added', async () => {
  const daemon = network.start(1);
  await daemon.logged(/flannel is ready/, PATIENCE_MS);
  await daemon.stop('SIGKILL');
  await assert.rejects(status(), (error: PluginError) => {
    assert.deepEqual([error.code, error.details], [51, 'flanneld is not running on this node; see its log']);
    return true;
  });
  await pods.create('meanwhile');
  await pods.delete('meanwhile');
});
