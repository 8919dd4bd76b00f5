// Builds the addon with node-gyp. Node's headers are taken from beside the running node where they are (as in
// the official tarballs and in distribution packages), so that nothing needs to be downloaded.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import path from 'node:path';

const root = fileURLToPath(new URL('..', import.meta.url));
const prefix = path.resolve(process.execPath, '../..');
const args = ['rebuild'];
if (!process.env.npm_config_nodedir && existsSync(path.join(prefix, 'include/node/node_api.h'))) {
  args.push(`--nodedir=${prefix}`);
}
// npm names its own copy of node-gyp to the scripts that it runs; outside npm the one on the PATH serves.
const gyp = process.env.npm_config_node_gyp;
const [command, first] = gyp ? [process.execPath, [gyp]] : ['node-gyp', []];
const result = spawnSync(command, [...first, ...args], { cwd: root, stdio: 'inherit' });
if (result.error)
  console.error(`flannel-udp: cannot run node-gyp (${result.error.message}); run this through npm`);
process.exit(result.status ?? 1);
