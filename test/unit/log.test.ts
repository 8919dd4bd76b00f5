import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import { UsageError } from '../../src/errors.js';
import { configureLog, log } from '../../src/log.js';
import { parseBacktraceLocation, parseVmodule } from '../../src/logging/levels.js';

const SOURCE = new URL('../../../test/unit/log.test.ts', import.meta.url);
const LOG = new URL('../../src/log.js', import.meta.url).href;
const LINE = /^([IWE])(\d{4}) (\d\d:\d\d:\d\d\.\d{6}) +(\d+) ([\w.]+):(\d+)\] (.*)\n$/;

let lines: string[] = [];

beforeEach(() => {
  lines = [];
  configureLog({ v: 0, vmodule: '', logBacktraceAt: '', write: (line) => lines.push(line) });
});
afterEach(() => {
  configureLog({ v: 0, vmodule: '', logBacktraceAt: '' });
});

function only(): RegExpExecArray {
  assert.equal(lines.length, 1, JSON.stringify(lines));
  const match = LINE.exec(lines[0] ?? '');
  assert(match, lines[0]);
  return match;
}

describe('a log line', () => {
  test('has severity, local time, PID and the place in the TypeScript source', () => {
    const before = new Date();
    log.info('marked message'); // MARK
    const [line, severity, date, , pid, file, number, message] = only();
    assert.equal(severity, 'I');
    const day = (time: Date) =>
      [time.getMonth() + 1, time.getDate()].map((n) => String(n).padStart(2, '0')).join('');
    assert([day(before), day(new Date())].includes(date ?? ''));
    assert.equal(Number(pid), process.pid);
    assert.equal(line.slice(21, 30), ` ${String(process.pid).padStart(7)} `);
    assert.equal(file, 'log.test.ts');
    const source = readFileSync(SOURCE, 'utf8').split('\n');
    assert.match(source[Number(number) - 1] ?? '', /\/\/ MARK$/);
    assert.equal(message, 'marked message');
  });

  test('severities', () => {
    log.info('a');
    log.warning('b');
    log.error('c');
    assert.deepEqual(
      lines.map((line) => line.charAt(0) + line.slice(-3)),
      ['I a\n', 'W b\n', 'E c\n'],
    );
  });

  test('is one line, whatever the message', () => {
    log.info('a\nI0101 forged\r\u001b[2J\tb');
    assert.equal(only()[7], 'a\\nI0101 forged\\r\\u001b[2J\tb');
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (message) => {
        lines = [];
        log.info(message);
        only();
      }),
    );
  });

  test('names the caller in async code as well', async () => {
    await Promise.resolve();
    await (async () => {
      await Promise.resolve();
      log.error('late');
    })();
    assert.equal(only()[5], 'log.test.ts');
  });
});

describe('verbosity', () => {
  test('-v', () => {
    configureLog({ v: 2 });
    assert.deepEqual(
      [0, 1, 2, 3].map((level) => log.v(level).enabled),
      [true, true, true, false],
    );
    log.v(2).info('shown');
    log.v(3).info('not shown');
    assert.equal(only()[5], 'log.test.ts');
  });

  const vmodules: [string, boolean][] = [
    ['', false],
    ['log.test=4', true],
    ['log.test=3', false],
    ['other=9,log*=4,', true],
    ['log*=1,log.test=9', false],
    ['l?g.test=4', true],
    ['[k-m]og.*=4', true],
    ['[^l]og.*=4', false],
    ['\\log.test=4', true],
    ['log=9', false],
    ['log.test.ts=9', false],
    ['logxtest=9', false],
  ];
  for (const [vmodule, enabled] of vmodules) {
    test(`-vmodule ${vmodule}`, () => {
      configureLog({ vmodule });
      assert.equal(log.v(4).enabled, enabled);
    });
  }

  test('-vmodule that cannot be read', () => {
    for (const text of [
      'x',
      'x=',
      '=1',
      'x=y',
      'x=1=2',
      'x=-1',
      'x=1.5',
      '[a=1',
      '[]=1',
      'a\\=1',
      '[z-a]=1',
    ]) {
      assert.throws(() => parseVmodule(text), UsageError, text);
    }
  });

  test('any vmodule is read or refused', () => {
    const part = fc.constantFrom(
      '[',
      ']',
      '^',
      '-',
      '\\',
      '*',
      '?',
      '=',
      '1',
      ',',
      'a',
      '(',
      '+',
      '{',
      '|',
      '$',
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 10 }), (parts) => {
        try {
          for (const { file } of parseVmodule(`${parts.join('')}=1`)) file.test('watcher');
        } catch (error) {
          assert(error instanceof UsageError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('-log_backtrace_at', () => {
  test('adds the stack, every line with the prefix', () => {
    const source = readFileSync(SOURCE, 'utf8').split('\n');
    const line = source.findIndex((text) => text.endsWith('// TRACED')) + 1;
    configureLog({ logBacktraceAt: `log.test.ts:${line}` });
    log.info('not here');
    only();
    log.info('here'); // TRACED
    assert(lines.length > 3);
    for (const text of lines.slice(1)) assert(text.includes(` log.test.ts:${line}] `), text);
    assert.match(lines[2] ?? '', /\] {5}at .*log\.test\.js/);
  });

  test('syntax', () => {
    assert.equal(parseBacktraceLocation(''), null);
    assert.deepEqual(parseBacktraceLocation('udp.ts:12'), { file: 'udp.ts', line: 12 });
    for (const text of [
      'udp:12',
      'udp.ts',
      'udp.ts:',
      'udp.ts:0',
      'udp.ts:-1',
      'udp.ts:x',
      'a:udp.ts:1',
      ':0',
    ]) {
      assert.throws(() => parseBacktraceLocation(text), UsageError, text);
    }
  });

  test('a setting that cannot be read changes nothing', () => {
    assert.throws(() => {
      configureLog({ v: 9, vmodule: 'x' });
    }, UsageError);
    assert.equal(log.v(9).enabled, false);
  });
});

describe('stderr', () => {
  const script = `import(${JSON.stringify(LOG)}).then(({ log }) => { log.info('x'.repeat(300000)); process.exit(7); })`;

  test('has the whole line before the process ends', () => {
    const { status, stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
    assert.equal(status, 7);
    assert.match(stderr, /^I.*\] x{300000}\n$/);
  });

  test('that nobody reads does not end the process', () => {
    const closed = spawnSync('sh', ['-c', `${process.execPath} -e "$1" 2>&-`, 'sh', script]);
    assert.equal(closed.status, 7);
    const broken = spawnSync(
      'sh',
      ['-c', `exec 3>&1; { ${process.execPath} -e "$1"; echo $? >&3; } 2>&1 | true`, 'sh', script],
      {
        encoding: 'utf8',
      },
    );
    assert.equal(broken.stdout, '7\n');
  });
});
