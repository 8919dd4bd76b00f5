/** The plugin as one executable: it works where there is no Node.js, nor anything else but the C library. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { ROOT } from '../../bench/tools.js';

const EXECUTABLE = join(ROOT, 'build/flannel');

let root: string;
before(() => {
  execFileSync(process.execPath, [join(ROOT, 'deploy/cni/build.mjs'), '--executable'], { stdio: 'pipe' });
  root = mkdtempSync(join(tmpdir(), 'flannel-root-'));
  const libraries = execFileSync('ldd', [EXECUTABLE], { encoding: 'utf8' });
  const files = [...libraries.matchAll(/(\/\S+) \(0x/g)].map(([, path = '']) => path);
  for (const [from, to] of [...files.map((path) => [path, path]), [EXECUTABLE, '/flannel']] as [
    string,
    string,
  ][]) {
    mkdirSync(dirname(join(root, to)), { recursive: true });
    copyFileSync(from, join(root, to));
  }
});
after(() => {
  rmSync(root, { recursive: true });
});

function run(env: Record<string, string>, input = ''): { status: number | null; stdout: string } {
  const chroot = spawnSync('which', ['chroot'], { encoding: 'utf8' }).stdout.trim() || '/usr/sbin/chroot';
  const { status, stdout, stderr } = spawnSync(chroot, [root, '/flannel'], { env, input, encoding: 'utf8' });
  assert.equal(stderr, '');
  return { status, stdout };
}

test('tells its versions', () => {
  const { status, stdout } = run({ CNI_COMMAND: 'VERSION' });
  assert.equal(status, 0);
  assert.match(stdout, /^\{"cniVersion":"1\.1\.0","supportedVersions":\[/);
});

test('reads its input and files, and fails as it should', () => {
  const pod = { CNI_CONTAINERID: 'pod', CNI_IFNAME: 'eth0', CNI_NETNS: '/none', CNI_PATH: '/nowhere' };
  const config = JSON.stringify({
    cniVersion: '1.0.0',
    name: 'net',
    type: 'flannel',
    subnetFile: '/subnet.env',
  });
  assert.deepEqual(run({ ...pod, CNI_COMMAND: 'DEL' }, config), { status: 0, stdout: '' });
  writeFileSync(join(root, 'subnet.env'), 'FLANNEL_MTU=1\n');
  const { status, stdout } = run({ ...pod, CNI_COMMAND: 'ADD' }, config);
  assert.equal(status, 1);
  assert.match(
    stdout,
    /"msg": "failed to load flannel 'subnet\.env' file: \/subnet\.env is missing FLANNEL_NETWORK,/,
  );
});
