/** One flanneld after another: handed over, killed, stood in for, and cleaned up after. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { after, afterEach, before, describe, test } from 'node:test';
import { FLANNELD } from '../../bench/daemon.js';
import type { Daemon } from '../../bench/daemon.js';
import { RunningTool } from '../../bench/tools.js';
import { eventually } from '../lib/eventually.js';
import { leftovers, TestNetwork, undisturbed } from '../lib/network.js';
import { withVariant } from '../lib/rules.js';
import { startStandby } from '../lib/standby.js';
import { handOver, succeed } from '../lib/succession.js';

let network: TestNetwork;

before(async () => {
  network = await TestNetwork.create(2);
});
after(() => network.close());
afterEach(async () => {
  await network.stopAll();
  await cleanUp();
  await network.emptyStore();
});

const socket = () => join(network.folder, 'host1.sock');

function cleanUp(): Promise<{ stderr: string }> {
  const flags = [`--subnet-file=${join(network.folder, 'host1.env')}`];
  return network.host(1).exec(process.execPath, FLANNELD, 'cleanup', ...flags);
}

async function startTwo(): Promise<[Daemon, Daemon]> {
  const [a, b] = await network.startAll();
  assert.ok(a && b);
  return [a, b];
}

async function deviceIndex(): Promise<string> {
  const link = await network.host(1).ip('-o', 'link', 'show', 'flannel0');
  return link.replace(/:.*/s, '');
}

/** All traffic rules with their handles, which a rule that is written anew does not keep. */
async function rulesOf({ host }: Daemon): Promise<string> {
  const { stdout } = await host.exec('nft', '-a', 'list', 'ruleset');
  return stdout.replace(/counter packets \d+ bytes \d+/g, 'counter');
}

describe('a second flanneld', () => {
  test('takes over from the first, which ends, and nobody notices', async () => {
    const behind = await withVariant(network.folder, 'nft');
    const a = network.startBehind(behind, 1, '--ip-masq');
    const b = network.start(2);
    await Promise.all([a.ready(1), b.ready(1)]);
    const index = await deviceIndex();
    const rules = await rulesOf(a);
    assert.match(rules, /jump FLANNEL-POSTRTG[^]*jump FLANNEL-FWD/);
    let next: Daemon | undefined;
    await undisturbed(b, a, async () => {
      next = await handOver(a, () => network.startBehind(behind, 1, '--ip-masq'));
    });
    assert.equal(a.exitCode, 0);
    assert.equal(await deviceIndex(), index);
    assert.equal(await rulesOf(a), rules);
    assert.equal(await next?.stop(), 0);
    assert.equal(await rulesOf(a), rules);
    assert.equal(await leftovers(network.host(1)), '');
    assert.ok(!existsSync(socket()) && !existsSync(`${socket()}.lock`));
  });

  test('of a lower generation is refused, and the first goes on', async () => {
    const a = network.start(1, '--handover-generation=2');
    await a.logged(/flannel is ready/);
    const older = network.start(1, '--handover-generation=1');
    await older.ended();
    assert.equal(older.exitCode, 1);
    assert.match(older.log, /does not hand over: the owner is of generation 2, and it of 1; it goes on/);
    assert.equal(a.exitCode, null);
    assert.match(await deviceIndex(), /^\d+$/);
  });

  test('finds the port taken where the first has no control socket', async () => {
    const a = network.start(1, '--control-socket=none');
    await a.logged(/flannel is ready/);
    const second = network.start(1);
    await second.ended();
    assert.equal(second.exitCode, 1);
    assert.match(second.log, /UDP 192\.168\.77\.1:8285 is taken/);
    assert.ok(!existsSync(socket()) && !existsSync(`${socket()}.lock`));
  });
});

describe('a killed flanneld', () => {
  test('leaves its device, address and route to the next', async () => {
    const [a, b] = await startTwo();
    const index = await deviceIndex();
    await a.stop('SIGKILL');
    assert.equal(await deviceIndex(), index);
    assert.match(await network.host(1).ip('route'), /10\.244\.0\.0\/16 dev flannel0/);
    const next = network.start(1);
    await next.ready(1);
    assert.equal(await deviceIndex(), index);
    await undisturbed(next, b, async () => {
      await delay(500);
    });
  });

  test('is cleaned up after, but not while one runs', async () => {
    const [a] = await startTwo();
    await assert.rejects(cleanUp(), /a flanneld or its standby is at work/);
    await a.stop('SIGKILL');
    assert.notEqual(await leftovers(network.host(1)), '');
    await cleanUp();
    assert.equal(await leftovers(network.host(1)), '');
    assert.ok(!existsSync(socket()) && !existsSync(`${socket()}.lock`));
  });

  test('without a control socket takes its device along', async () => {
    const a = network.start(1, '--control-socket=none');
    await a.logged(/flannel is ready/);
    assert.match(await a.host.ip('-d', 'link', 'show', 'flannel0'), /tun type tun pi off .*persist off/);
    await a.stop('SIGKILL');
    await eventually(async () => {
      assert.equal(await leftovers(network.host(1)), '');
    });
  });
});

describe('a standby', () => {
  let standby: RunningTool | undefined;
  afterEach(async () => {
    await standby?.kill();
    standby = undefined;
  });

  test('forwards between two flannelds, whether the first is stopped or killed', async () => {
    const [a, b] = await startTwo();
    standby = await startStandby(network.host(1), socket());
    let daemon = a;
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      await daemon.logged(/stands by/);
      const { overlayAddress } = daemon;
      await undisturbed(b, daemon, async () => {
        await daemon.stop(signal);
        assert.equal(await standby?.line(), 'flannel-standby: flanneld is gone; forwarding in its place');
        daemon = await succeed(
          () => network.start(1),
          ({ log }) => /Took over[^]*stands by/.test(log),
        );
      });
      assert.equal(daemon.overlayAddress, overlayAddress);
      assert.match(await standby.line(), /standing by/);
    }
  });

  test('that ends last removes the device', async () => {
    const [a] = await startTwo();
    standby = await startStandby(network.host(1), socket());
    await a.logged(/stands by/);
    await a.stop();
    assert.notEqual(await leftovers(network.host(1)), '');
    await standby.terminate();
    assert.equal(await leftovers(network.host(1)), '');
    assert.ok(!existsSync(socket()) && !existsSync(`${socket()}.lock`));
  });
});
