// Makes the CNI plugin one file: `node deploy/cni/build.mjs` for dist/cni/flannel.cjs, which Node.js runs, and
// `node deploy/cni/build.mjs --executable` for build/flannel beside it, which needs no Node.js on the host.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('../..', import.meta.url));
const bundle = join(root, 'dist/cni/flannel.cjs');

await makeBundle();
if (process.argv.includes('--executable')) await makeExecutable(join(root, 'build/flannel'));

async function makeBundle() {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  await build({
    entryPoints: [join(root, 'src/cni/main.ts')],
    outfile: bundle,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    minify: true,
    define: { FLANNEL_VERSION: JSON.stringify(version) },
    logLevel: 'warning',
  });
  chmodSync(bundle, 0o755);
}

/** Node's single executable application: a copy of this node with the bundle and its compiled code in a note. */
async function makeExecutable(path) {
  const { inject } = await import('postject');
  const folder = mkdtempSync(join(tmpdir(), 'flannel-cni-'));
  try {
    const [config, blob, copy] = ['sea.json', 'sea.blob', 'flannel'].map((name) => join(folder, name));
    const settings = { main: bundle, output: blob, disableExperimentalSEAWarning: true, useCodeCache: true };
    writeFileSync(config, JSON.stringify(settings));
    execFileSync(process.execPath, ['--experimental-sea-config', config], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    copyFileSync(process.execPath, copy);
    chmodSync(copy, 0o755);
    await inject(copy, 'NODE_SEA_BLOB', readFileSync(blob), {
      sentinelFuse: 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2',
    });
    mkdirSync(join(root, 'build'), { recursive: true });
    // In one step, and also over one that runs.
    copyFileSync(copy, `${path}.new`);
    renameSync(`${path}.new`, path);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
