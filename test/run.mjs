// Runs levels of the test suite: node test/run.mjs unit native store netns sanitize …
// Each level is one command or a few whose exit status counts; the first failure is the result, but every level runs.
// Two run at a time, since most tests wait most of the time; what they say is not mixed.
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
// What ends a test that hangs; a slow machine may take minutes for the gigabytes of some.
const TEST_TIMEOUT_MS = 600_000;
const LEVELS_AT_ONCE = 2;
const LABS = 2;
const COLOR = process.stdout.isTTY ? { FORCE_COLOR: '1' } : {};

/** What a level says, held back until those before it are done. */
class Output {
  #held = [];
  #live = false;

  write(chunk) {
    if (this.#live) process.stdout.write(chunk);
    else this.#held.push(chunk);
  }

  goLive() {
    this.#live = true;
    for (const chunk of this.#held.splice(0)) process.stdout.write(chunk);
  }
}

function run(output, [command, args, env = {}]) {
  const child = spawn(command, args, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...COLOR, ...env },
  });
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => output.write(chunk));
  return new Promise((resolve) => {
    child.once('error', (error) => {
      output.write(`${command}: ${error.message}\n`);
      resolve(1);
    });
    child.once('close', (status) => resolve(status ?? 1));
  });
}

/** Runs commands until one fails. */
async function inTurn(output, commands) {
  for (const command of commands) {
    const status = await run(output, command);
    if (status !== 0) return status;
  }
  return 0;
}

function testFiles(level) {
  const folder = path.join('dist/test', level);
  const files = readdirSync(path.join(root, folder)).filter((name) => name.endsWith('.test.js'));
  if (files.length === 0) throw new Error(`no tests in ${folder}`);
  return files.map((name) => path.join(folder, name));
}

function nodeTest(level, ...flags) {
  return [
    '--test',
    '--test-reporter=spec',
    `--test-timeout=${TEST_TIMEOUT_MS}`,
    ...flags,
    ...testFiles(level),
  ];
}

/** Tests with hosts of their own, which share one lab: one file at a time, or a part of the files in each of some. */
function labTest(level, part = null) {
  const flags = part === null ? [] : [`--test-shard=${part}/${LABS}`];
  return [
    process.execPath,
    ['dist/test/lib/in-lab.js', ...nodeTest(level, '--test-concurrency=1', ...flags)],
  ];
}

/**
 * The native tests for arm64, under qemu-user. Left to the native level is what needs a network of its own, what
 * emulation makes too slow (the differential) or gets between (the counting of allocations), and what it does not pass
 * on (getsockopt IP_MTU).
 */
function arm64() {
  const folder = 'build-arm64';
  return [
    ['cmake', ['-S', 'native', '-B', folder, '-DCMAKE_TOOLCHAIN_FILE=aarch64.cmake', '--log-level=WARNING']],
    ['cmake', ['--build', folder, '--target', 'native_test', '-j', String(availableParallelism())]],
    [
      'qemu-aarch64-static',
      [
        path.join(root, folder, 'native_test'),
        '--gtest_brief=1',
        '--gtest_filter=-SuccessionTest.*:Cycles.*:PathMtuTest.*:OffloadTest.*Same*:Allocation*',
      ],
    ],
  ];
}

/** Builds the native tests in a folder of their own and runs them. */
function native(folder, sanitize, env) {
  return [
    ['cmake', ['-S', 'native', '-B', folder, `-DSANITIZE=${sanitize}`, '--log-level=WARNING']],
    ['cmake', ['--build', folder, '--target', 'native_test', '-j', String(availableParallelism())]],
    [path.join(root, folder, 'native_test'), ['--gtest_brief=1'], env],
  ];
}

/** The commands of each level; of one in parts, those of each part. */
const levels = {
  unit: () => [[[process.execPath, nodeTest('unit')]]],
  native: () => [native('build-cmake', '')],
  store: () => [[[process.execPath, nodeTest('store')]]],
  netns: () => Array.from({ length: LABS }, (_, i) => [labTest('netns', i + 1)]),
  cni: () => [[labTest('cni')]],
  page: () => [[labTest('page')]],
  matrix: () => [[labTest('matrix')]],
  arm64: () => [arm64()],
  sanitize: () => [
    [
      ...native('build-asan', 'address,undefined', { UBSAN_OPTIONS: 'print_stacktrace=1' }),
      ...native('build-tsan', 'thread'),
    ],
  ],
};

const names = process.argv.slice(2);
const unknown = names.find((name) => !Object.hasOwn(levels, name));
if (unknown !== undefined) {
  console.error(`unknown level ${unknown}; there are ${Object.keys(levels).join(', ')}`);
  process.exit(2);
}
const tasks = names.flatMap((name) => {
  const parts = levels[name]();
  return parts.map((commands, i) => ({
    title: parts.length === 1 ? name : `${name} ${i + 1}/${parts.length}`,
    commands,
    output: new Output(),
  }));
});

const rest = [...tasks];
const results = new Map();
async function work() {
  for (let task = rest.shift(); task !== undefined; task = rest.shift()) {
    const { title, commands, output } = task;
    output.write(`\n== ${title}\n`);
    const status = await inTurn(output, commands);
    if (status !== 0) output.write(`== ${title} failed\n`);
    results.set(task, status);
    tell();
  }
}
/** Shows the output of the first task that is not done, and of all before it. */
function tell() {
  for (const task of tasks) {
    task.output.goLive();
    if (!results.has(task)) return;
  }
}

tell();
await Promise.all(Array.from({ length: LEVELS_AT_ONCE }, work));
const failed = tasks.filter((task) => results.get(task) !== 0);
if (failed.length > 0) console.error(`failed: ${failed.map(({ title }) => title).join(', ')}`);
process.exitCode = failed.length === 0 ? 0 : results.get(failed[0]);
