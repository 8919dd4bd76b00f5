/** The demo cut short: whatever ends it, no process and no file of it stays. (CI runs it to its end.) */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { eventually } from '../lib/eventually.js';

const DEMO = fileURLToPath(new URL('../../bench/demo.js', import.meta.url));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flannel-demo-test-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** Starts the demo as a terminal would, in a process group and a lab of its own; resolves once daemons run. */
async function startDemo(): Promise<ChildProcess> {
  const env = { ...process.env, TMPDIR: folder, FLANNEL_LAB: undefined };
  const demo = spawn(process.execPath, [DEMO], { env, detached: true, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  demo.stdout.on('data', (text: Buffer) => (output += text.toString()));
  await eventually(() => output.includes('host3 (192.168.77.3) has'));
  assert.notEqual((await processes()).length, 0);
  return demo;
}

/** The command lines that name the demo's folder: its daemons. */
async function processes(): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (commandLine.includes(folder)) found.push(commandLine);
  }
  return found;
}

async function nothingStays(): Promise<void> {
  await eventually(async () => {
    assert.deepEqual(await processes(), []);
    assert.deepEqual(await readdir(folder), []);
  }, 20_000);
}

const ways: [string, (demo: ChildProcess) => void][] = [
  ['Ctrl-C', ({ pid }) => process.kill(-(pid ?? 0), 'SIGINT')],
  ['SIGTERM', (demo) => demo.kill('SIGTERM')],
  ['a closed output', (demo) => demo.stdout?.destroy()],
];
for (const [name, end] of ways) {
  test(`${name} ends it with a failure and leaves nothing`, async () => {
    const demo = await startDemo();
    const closed = once(demo, 'exit');
    end(demo);
    const [status] = (await closed) as [number | null];
    assert.equal(status, 1);
    await nothingStays();
  });
}

test('kill -9 leaves nothing either', async () => {
  const demo = await startDemo();
  demo.kill('SIGKILL');
  await nothingStays();
});
