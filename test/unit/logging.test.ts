import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { configureLog, log, recentProblems } from '../../src/log.js';
import { LineLimit } from '../../src/logging/limit.js';
import { redact } from '../../src/logging/redact.js';
import { EtcdClient } from '../../src/subnet/etcd/client.js';
import { rpc } from '../../src/subnet/etcd/proto.js';
import { messageOf } from '../../src/errors.js';
import { describeOptions, parseFlags } from '../../src/flags.js';
import { TestClock } from '../lib/clock.js';
import { captureLog, forever } from '../lib/store.js';

describe('redact', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['at http://user:pass@h:2379 failed', 'at http://***@h:2379 failed'],
    ['http://a:1,http://u:p@b:2,http://v:q,r@c', 'http://a:1,http://***@b:2,http://***@c'],
    ['http://u:p/w@h', 'http://***@h'],
    ['http://u:p@w@h "x@y"', 'http://***@h "x@y"'],
    ['Authorization: Bearer abc.DEF-123', 'Authorization: Bearer ***'],
    ['token eyJhbGciOi.eyJzdWIi.c2ln refused', 'token *** refused'],
    ['password=hunter2, "password":"x y"', 'password=***, "password":***'],
    ['nothing of the kind', 'nothing of the kind'],
    ['who@where', 'who@where'],
    ["http://u:it's@h", 'http://***@h'],
    ['["http://a:1","http://u:p@b"]', '["http://a:1","http://***@b"]'],
    ['{etcdEndpoints:[u:p@h:2379] iface:[eth0]}', '{***@h:2379] iface:[eth0]}'],
    ['Authorization: Basic dTpw refused', 'Authorization: Basic *** refused'],
    ['{"password": "x y", "user": "u"}', '{"password": ***, "user": "u"}'],
    ['{"password":"x\\"y","user":"u"}', '{"password":***,"user":"u"}'],
    ['"{\\"password\\":\\"xy\\",\\"a\\":1}"', '"{\\"password\\":***,\\"a\\":1}"'],
    ['password=a,b;c, then', 'password=***, then'],
    ["password=it's", 'password=***'],
    ['users:\n  password: hunter2\n  token: abc', 'users:\n  password: ***\n  token: ***'],
    ['client-key-data: LS0t, client-secret=x', 'client-key-data: ***, client-secret=***'],
    ['{etcdPassword: etcdPrefix:/coreos.com}', '{etcdPassword: etcdPrefix:/coreos.com}'],
    ['a -----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- b', 'a *** b'],
    ['-----BEGIN PRIVATE KEY-----\nMII', '***'],
    [
      'tier basic batch, password file, token of the lease',
      'tier basic batch, password file, token of the lease',
    ],
  ];
  for (const [text, expected] of cases) {
    test(text, () => {
      assert.equal(redact(text), expected);
    });
  }
});

test('redact takes its time in proportion to the text', () => {
  for (const part of [
    '/',
    '//',
    ',http://',
    'a:',
    'password=}',
    '-----BEGIN PRIVATE KEY-----',
    'password="',
    '@/',
  ]) {
    const started = performance.now();
    redact(`@${part.repeat(200_000 / part.length)}`);
    // In proportion to the square, it would be minutes.
    assert.ok(performance.now() - started < 5_000, part);
  }
});

describe('the password of an etcd endpoint is in no message', () => {
  const SECRETS = ['sw0rd', 'f1sh'];
  const clean = (text: string): void => {
    for (const secret of SECRETS) assert.ok(!text.includes(secret), text);
  };
  // The URL syntax wants some of these characters to be escaped; who does not know that has a password in danger.
  for (const password of [
    'sw0rdf1sh',
    'sw0rd/f1sh',
    'sw0rd@f1sh',
    'sw0rd%f1sh',
    'sw0rd#f1sh',
    'sw0rd:f1sh',
    'sw0rd?f1sh',
  ]) {
    const endpoint = `http://user:${password}@127.0.0.1:1`;

    test(`${password}: in the options, and where the endpoint cannot be used`, async () => {
      const lines = captureLog();
      const command = parseFlags([`--etcd-endpoints=${endpoint}`], {});
      assert.ok(command.kind === 'run');
      log.info(describeOptions(command.options));
      const options = { username: 'user', password, caFile: '', certFile: '', keyFile: '' };
      try {
        const client = new EtcdClient({ ...options, endpoints: [endpoint] });
        try {
          await client.unary(rpc.range, { key: Buffer.from('x') }, forever);
        } finally {
          client.close();
        }
      } catch (error) {
        log.error(messageOf(error));
        if (error instanceof Error) log.error(error.stack ?? '');
      }
      assert.ok(lines.length >= 2);
      clean(lines.join(''));
    });
  }
});

describe('JSON lines', () => {
  let lines: string[];
  beforeEach(() => {
    lines = captureLog();
    configureLog({ loggingFormat: 'json', v: 2 });
  });
  afterEach(() => {
    configureLog({ loggingFormat: 'text', v: 0 });
  });

  test('have ts, level, caller, msg and, if they are no problems, v', () => {
    const before = Date.now();
    log.v(2).info('two\nlines "quoted" \u2028');
    log.warning('w');
    log.error('e');
    const [info, warning, error] = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.ok(Number(info?.ts) >= before && Number(info?.ts) <= Date.now());
    assert.match(String(info?.caller), /^logging\.test\.ts:\d+$/);
    assert.deepEqual(
      { ...info, ts: 0, caller: '' },
      { ts: 0, level: 'info', caller: '', msg: 'two\nlines "quoted" \u2028', v: 2 },
    );
    assert.equal(warning?.level, 'warning');
    assert.equal(error?.level, 'error');
    assert.ok(lines.every((line) => line.indexOf('\n') === line.length - 1));
  });
});

test('the last problems are kept, without secrets', () => {
  captureLog();
  for (let i = 0; i < 30; i++) log.warning(`problem ${i} at http://u:p@h`);
  log.info('no problem');
  const problems = recentProblems();
  assert.equal(problems.length, 20);
  assert.equal(problems.at(-1)?.message, 'problem 29 at http://***@h');
});

describe('LineLimit', () => {
  test('lets some lines of a kind pass and counts the others', async () => {
    const clock = new TestClock();
    const limit = new LineLimit(3, clock);
    const passed = () => Array.from({ length: 10 }, () => limit.allows('full')).filter(Boolean).length;
    assert.equal(passed(), 3);
    assert.equal(limit.allows('other'), true);
    assert.deepEqual(limit.reports(), []);
    await clock.pass(60_000);
    assert.deepEqual(limit.reports(), ['full: 7 more lines within a minute were left out']);
    assert.deepEqual(limit.reports(), []);
    assert.equal(passed(), 3);
  });
});
