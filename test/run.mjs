// Runs levels of the test suite: node test/run.mjs unit native store netns sanitize …
// Each level is one command whose exit status counts; the first failure is the result, but every level runs.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
// What ends a test that hangs; a slow machine may take minutes for the gigabytes of some.
const TEST_TIMEOUT_MS = 600_000;

function run(command, args, env = {}) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  if (error) console.error(`${command}: ${error.message}`);
  return status ?? 1;
}

/** Runs commands until one fails. */
function inTurn(...commands) {
  for (const [command, args, env] of commands) {
    const status = run(command, args, env);
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

/**
 * The native tests for arm64, under qemu-user. Left to the native level is what needs a network of its own, what
 * emulation makes too slow (the differential) or gets between (the counting of allocations), and what it does not pass
 * on (getsockopt IP_MTU).
 */
function arm64() {
  const folder = 'build-arm64';
  return inTurn(
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
  );
}

/** Builds the native tests in a folder of their own and runs them. */
function native(folder, sanitize, env) {
  return inTurn(
    ['cmake', ['-S', 'native', '-B', folder, `-DSANITIZE=${sanitize}`, '--log-level=WARNING']],
    ['cmake', ['--build', folder, '--target', 'native_test', '-j', String(availableParallelism())]],
    [path.join(root, folder, 'native_test'), ['--gtest_brief=1'], env],
  );
}

const levels = {
  unit: () => run(process.execPath, nodeTest('unit')),
  native: () => native('build-cmake', ''),
  store: () => run(process.execPath, nodeTest('store')),
  // The hosts of these share one lab, so one file at a time.
  netns: () =>
    run(process.execPath, ['dist/test/lib/in-lab.js', ...nodeTest('netns', '--test-concurrency=1')]),
  cni: () => run(process.execPath, ['dist/test/lib/in-lab.js', ...nodeTest('cni', '--test-concurrency=1')]),
  page: () => run(process.execPath, ['dist/test/lib/in-lab.js', ...nodeTest('page', '--test-concurrency=1')]),
  arm64,
  chaos: () => run(process.execPath, ['dist/test/chaos/run.js']),
  soak: () => run(process.execPath, ['dist/test/soak/run.js']),
  sanitize: () =>
    native('build-asan', 'address,undefined', { UBSAN_OPTIONS: 'print_stacktrace=1' }) ||
    native('build-tsan', 'thread'),
};

let result = 0;
for (const name of process.argv.slice(2)) {
  if (!Object.hasOwn(levels, name)) {
    console.error(`unknown level ${name}; there are ${Object.keys(levels).join(', ')}`);
    process.exit(2);
  }
  console.log(`\n== ${name}`);
  const status = levels[name]();
  if (status !== 0) console.error(`== ${name} failed`);
  result ||= status;
}
process.exit(result);
