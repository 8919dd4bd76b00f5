/** `flanneld status` and the socket behind it, on hosts with real daemons. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { after, afterEach, before, describe, test } from 'node:test';
import { FLANNELD } from '../../bench/daemon.js';
import type { Daemon } from '../../bench/daemon.js';
import { readStatus } from '../../src/status/client.js';
import type { StatusReport } from '../../src/status/report.js';
import { eventually } from '../lib/eventually.js';
import { CONFIG, TestNetwork } from '../lib/network.js';

let network: TestNetwork;

before(async () => {
  network = await TestNetwork.create(2);
});
afterEach(async () => {
  await network.stopAll();
  await network.host(1).exec(process.execPath, FLANNELD, 'cleanup', subnetFile());
  await writeFile(join(network.store, 'config'), JSON.stringify(CONFIG));
  assert.deepEqual(
    readdirSync(network.folder).filter((name) => name.includes('status')),
    [],
  );
});
after(() => network.close());

const subnetFile = () => `--subnet-file=${join(network.folder, 'host1.env')}`;
const socket = () => join(network.folder, 'host1.status.sock');

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command with these arguments, on the first host. */
async function status(...args: string[]): Promise<Outcome> {
  try {
    const all = [FLANNELD, 'status', subnetFile(), ...args];
    return { code: 0, ...(await network.host(1).exec(process.execPath, ...all)) };
  } catch (error) {
    return error as Outcome & Error;
  }
}

async function startTwo(): Promise<[Daemon, Daemon]> {
  const [a, b] = await network.startAll();
  assert.ok(a && b);
  return [a, b];
}

describe('the command', () => {
  test('shows the host and its peers, with 0 for ready', async () => {
    const [a, b] = await startTwo();
    await a.host.exec('ping', '-c', '3', '-i', '0.05', b.overlayAddress);
    const peer = `^${b.overlaySubnet} +192\\.168\\.77\\.2:8285 +[1-9]\\d* B +[1-9]\\d* B +\\d\\S+ ms +1500$`;
    // The distance of a peer that takes its time is in the next answer.
    const { code, stdout, stderr } = await eventually(async () => {
      const outcome = await status();
      assert.match(outcome.stdout, new RegExp(peer, 'm'), outcome.stderr);
      return outcome;
    });
    assert.equal(code, 0, stderr);
    assert.equal(stderr, '');
    assert.match(stdout, /^flanneld \d+\.\d+\.\d+ {2}● ready .*pid \d+$/m);
    assert.match(stdout, new RegExp(`^lease +${a.overlaySubnet} of 10\\.244\\.0\\.0/16, runs out in`, 'm'));
    for (const line of stdout.split('\n')) assert.ok(line.length <= 80, line);
  });

  test('prints the document with --json', async () => {
    const [a, b] = await startTwo();
    const report = await eventually(async () => {
      const { code, stdout } = await status('--json');
      assert.equal(code, 0);
      const printed = JSON.parse(stdout) as StatusReport;
      assert.equal(printed.peers[0]?.answers, true);
      return printed;
    });
    assert.equal(report.schema, 1);
    assert.equal(report.ready, true);
    assert.equal(report.lease?.subnet, a.overlaySubnet);
    assert.deepEqual([report.trafficRules?.manager, report.trafficRules?.inPlace], ['iptables', true]);
    assert.deepEqual(report.dataplane?.missing, []);
    const [peer] = report.peers;
    assert.equal(peer?.subnet, b.overlaySubnet);
    assert.ok((peer.rttMs ?? 0) > 0 && (peer.traffic?.packetsOut ?? 0) >= 1);
  });

  test('shows the traffic rules, and that they were repaired', async () => {
    const a = network.start(1, '--iptables-resync=1');
    await a.logged(/flannel is ready/);
    assert.match((await status()).stdout, /^rules +iptables, complete$/m);
    await a.host.exec('iptables', '-w', '-F', 'FLANNEL-FWD');
    await eventually(async () => {
      assert.match((await status()).stdout, /^rules +iptables, complete, repaired once, last /m);
    });
  });

  test('says 1 and why while the daemon waits, from its start on', async () => {
    await writeFile(join(network.store, 'config'), 'no JSON');
    network.start(1);
    await eventually(() => existsSync(socket()));
    await eventually(async () => {
      const { code, stdout } = await status();
      assert.equal(code, 1);
      assert.match(stdout, /● not ready/);
      assert.match(stdout, /phase failed: waiting for the network config/);
      assert.match(stdout, /last error, /);
    });
  });

  test('tells once of a subnet file that cannot be read', async () => {
    const folder = join(network.folder, 'unreadable');
    await mkdir(folder);
    const a = network.start(1, `--subnet-file=${folder}`);
    await a.logged(/cannot write the subnet file/);
    assert.equal(a.log.match(/Cannot read the subnet file/g)?.length, 1, a.log);
    await a.stop();
    await rm(folder, { recursive: true });
  });

  test('tells what to do where nobody answers', async () => {
    const nobody = await status();
    assert.equal(nobody.code, 1);
    assert.match(
      nobody.stderr,
      /^[^\n]*no flanneld is running with the status socket [^\n]*: start it, or[^\n]*\n$/,
    );
    const a = network.start(1);
    await a.logged(/flannel is ready/);
    await a.stop('SIGKILL');
    const killed = await status();
    assert.equal(killed.code, 1);
    assert.match(killed.stderr, /one that was killed has left it/);
    const off = await status('--status-socket=none');
    assert.match(off.stderr, /there is no status socket with --status-socket=none/);
  });

  test('has switches that the daemon has not', async () => {
    assert.equal((await status('--json=maybe')).code, 2);
    const daemon = network.start(1, '--watch');
    await daemon.ended();
    assert.equal(daemon.exitCode, 2);
    assert.match(daemon.log, /flag provided but not defined: -watch/);
  });
});

describe('the socket', () => {
  test('is for its owner alone, is answered to plain HTTP/1.0 at once, and goes with the daemon', async () => {
    const [a] = await startTwo();
    assert.equal(statSync(socket()).mode & 0o777, 0o600);
    const answer = await rawRequest('GET /?peers=none HTTP/1.0\r\n\r\n');
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    assert.match(head, /^HTTP\/1\.1 200 OK\r\nContent-Type: application\/json/);
    const report = JSON.parse(body) as StatusReport;
    assert.equal(report.ready, true);
    assert.equal(report.peerCount, 1);
    assert.deepEqual(report.peers, []);
    await a.stop();
    assert.ok(!existsSync(socket()));
  });

  test('passes to the next daemon, never away in between, and stays when the first has ended', async () => {
    const [a] = await startTwo();
    const before = (await readStatus(socket())).pid;
    const next = network.start(1);
    // Both run: whoever has the name answers, and is ready.
    while (a.exitCode === null && next.exitCode === null)
      assert.equal((await readStatus(socket())).ready, true);
    await next.logged(/Took over/);
    await a.ended();
    await eventually(async () => (await readStatus(socket())).pid !== before);
    assert.equal(statSync(socket()).mode & 0o777, 0o600);
    await next.stop();
    assert.ok(!existsSync(socket()));
  });

  test('stays with the first where a second is refused', async () => {
    const a = network.start(1, '--handover-generation=2');
    await a.logged(/flannel is ready/);
    const { pid } = await readStatus(socket());
    await network.start(1, '--handover-generation=1').ended();
    assert.equal((await readStatus(socket())).pid, pid);
  });

  test('takes the place of one that a killed daemon has left, and of one that was removed', async () => {
    const a = network.start(1);
    await a.logged(/flannel is ready/);
    await a.stop('SIGKILL');
    assert.ok(existsSync(socket()));
    const b = network.start(1);
    await eventually(async () => (await readStatus(socket())).ready);
    await rm(socket());
    await eventually(async () => (await readStatus(socket())).ready);
    await b.stop();
  });

  test('can be elsewhere, and off', async () => {
    const elsewhere = join(network.folder, 'new/other');
    const a = network.start(1, `--status-socket=${elsewhere}`);
    await a.logged(/flannel is ready/);
    assert.equal((await status(`--status-socket=${elsewhere}`)).code, 0);
    assert.ok(!existsSync(socket()));
    await a.stop();
    assert.ok(!existsSync(elsewhere));
    const off = network.start(1, '--status-socket=none');
    await off.logged(/flannel is ready/);
    assert.ok(!existsSync(socket()));
  });
});

describe('--watch', () => {
  const watches: ChildProcess[] = [];
  afterEach(() => {
    for (const child of watches.splice(0)) child.kill('SIGKILL');
  });

  /** Runs it; the output so far is what the result says. */
  function watch(command: string, args: readonly string[]): { child: ChildProcess; output: () => string } {
    const child = spawn(command, args, { stdio: 'pipe' });
    watches.push(child);
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (more: string) => (text += more));
    }
    return { child, output: () => text };
  }

  test('prints block after block where there is no terminal, also over a restart', async () => {
    const [a] = await startTwo();
    const { child, output } = watch(process.execPath, [FLANNELD, 'status', '--watch', subnetFile()]);
    await eventually(() => (output().match(/● ready/g) ?? []).length >= 2);
    await eventually(() => /^out +\S+ bit\/s/m.test(output()));
    await a.stop();
    await eventually(() => output().includes('no flanneld is running'));
    const seen = output().length;
    network.start(1);
    await eventually(() => output().slice(seen).includes('● ready'));
    const closed = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGTERM');
    assert.equal(await closed, 0);
    assert.ok(!output().includes('\x1b'));
  });

  test('draws on the other screen of a terminal, in its size, and gives the first one back', async () => {
    await startTwo();
    const inTerminal = (command: string) => ['-qfec', command, '/dev/null'];
    const command = `stty cols 60 rows 18; exec ${process.execPath} ${FLANNELD} status --watch ${subnetFile()}`;
    const { child, output } = watch('script', inTerminal(command));
    await eventually(() => output().split('\x1b[H').length > 3);
    const closed = new Promise((resolve) => child.once('close', resolve));
    child.stdin?.write('\x03'); // Ctrl-C
    await closed;
    assert.ok(output().includes('\x1b[?1049h\x1b[?25l'));
    assert.ok(output().trimEnd().endsWith('\x1b[?25h\x1b[?1049l'));
    const frame = output().split('\x1b[H').at(-2) ?? '';
    assert.ok(frame.includes('\x1b[32m● ready'));
    const lines = frame.split('\r\n').map(stripVTControlCharacters);
    assert.ok(lines.length <= 18);
    for (const line of lines) assert.ok(line.length <= 60, line);
  });
});

function rawRequest(request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const client = connect(socket(), () => client.write(request));
    let answer = '';
    client.setEncoding('utf8').on('data', (text) => (answer += text.toString()));
    client.once('end', () => {
      resolve(answer);
    });
    client.once('error', reject);
  });
}
