import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { stringify } from 'yaml';
import { FlannelError } from '../../src/errors.js';
import { inClusterAccess } from '../../src/subnet/kube/in-cluster.js';
import { kubeconfigAccess } from '../../src/subnet/kube/kubeconfig.js';

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kubeconfig-test-'));
});
after(() => rm(folder, { recursive: true, force: true }));

const base64 = (text: string) => Buffer.from(text).toString('base64');

/** A kubeconfig with one context. */
async function write(user: object, cluster: object = {}, more: object = {}): Promise<string> {
  const file = join(folder, 'config');
  const document = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'here',
    contexts: [
      { name: 'there', context: { cluster: 'elsewhere', user: 'nobody' } },
      { name: 'here', context: { cluster: 'c', user: 'u' } },
    ],
    clusters: [{ name: 'c', cluster: { server: 'https://api.example:6443', ...cluster } }],
    users: [{ name: 'u', user }],
    ...more,
  };
  await writeFile(file, stringify(document));
  return file;
}

function refuses(file: string, pattern: RegExp): void {
  assert.throws(
    () => kubeconfigAccess(file, ''),
    (error: Error) => {
      assert.ok(error instanceof FlannelError, String(error));
      assert.match(error.message, pattern);
      assert.ok(!error.message.includes('\n'));
      return true;
    },
  );
}

describe('a kubeconfig', () => {
  test('names server, authority and token', async () => {
    const file = await write(
      { token: 'abc' },
      { 'certificate-authority-data': base64('CA'), 'tls-server-name': 'kubernetes' },
    );
    const { server, identity, tls } = kubeconfigAccess(file, '');
    assert.equal(server.href, 'https://api.example:6443/');
    assert.equal(await identity.authorization(), 'Bearer abc');
    const { ca, certificate, serverName, insecure } = await tls();
    assert.deepEqual([ca?.toString(), certificate, serverName, insecure], ['CA', null, 'kubernetes', false]);
  });

  test('gives way to a URL of the command line, in nothing but the server', async () => {
    const { server, identity } = kubeconfigAccess(await write({ token: 'abc' }), 'https://10.0.0.1:443/k8s');
    assert.equal(server.href, 'https://10.0.0.1/k8s');
    assert.equal(await identity.authorization(), 'Bearer abc');
  });

  test('names files relative to itself, which are read anew each time', async () => {
    for (const name of ['token', 'ca.pem', 'cert.pem', 'key.pem'])
      await writeFile(join(folder, name), `1 ${name}\n`);
    const file = await write(
      {
        token: 'older',
        tokenFile: 'token',
        'client-certificate': 'cert.pem',
        'client-key': join(folder, 'key.pem'),
      },
      { 'certificate-authority': 'ca.pem' },
    );
    const { identity, tls } = kubeconfigAccess(file, '');
    assert.equal(await identity.authorization(), 'Bearer 1 token');
    assert.equal((await tls()).certificate?.cert.toString(), '1 cert.pem\n');
    await writeFile(join(folder, 'token'), '2');
    await writeFile(join(folder, 'ca.pem'), '2');
    assert.equal(await identity.authorization(), 'Bearer 2');
    assert.equal((await tls()).ca?.toString(), '2');
    await rm(join(folder, 'token'));
    await assert.rejects(() => identity.authorization(), /cannot read the token: .*token/);
  });

  test('may hold data, which takes precedence over files', async () => {
    const file = await write({
      'client-certificate': '/nowhere',
      'client-certificate-data': base64('CERT'),
      'client-key-data': base64('KEY'),
    });
    const { identity, tls } = kubeconfigAccess(file, '');
    assert.equal(await identity.authorization(), null);
    const { certificate } = await tls();
    assert.deepEqual([certificate?.cert.toString(), certificate?.key.toString()], ['CERT', 'KEY']);
  });

  test('may trust anybody', async () => {
    const file = await write({}, { 'insecure-skip-tls-verify': true });
    assert.equal((await kubeconfigAccess(file, '').tls()).insecure, true);
  });

  test('is refused with the reason', async () => {
    refuses(join(folder, 'missing'), /cannot read the kubeconfig .*missing/);
    const broken = join(folder, 'broken');
    await writeFile(broken, 'a: [1\nb: {');
    refuses(broken, /cannot read the kubeconfig/);
    for (const text of ['', '7', '[]', 'clusters: 7']) {
      await writeFile(broken, text);
      refuses(broken, /it names no cluster/);
    }
    refuses(await write({}, {}, { 'current-context': 'x' }), /no context "x"; its contexts are: there, here/);
    refuses(await write({}, {}, { 'current-context': '' }), /has no current-context/);
    refuses(
      await write({}, {}, { 'current-context': 'there' }),
      /no cluster "elsewhere"; its clusters are: c/,
    );
    refuses(await write({}, {}, { users: [] }), /no user "u"; its users are: none/);
    refuses(await write({}, { server: '' }), /its cluster has no server/);
    refuses(await write({}, { server: 'ftp://x' }), /no URL of an API server: "ftp:\/\/x"/);
    refuses(await write({}, { 'proxy-url': 'http://x' }), /proxy-url is not supported/);
    refuses(await write({ 'client-key': 'x' }), /takes both client-certificate and client-key/);
    refuses(await write({ 'auth-provider': { name: 'gcp' } }), /auth-provider is not supported/);
    const both = { 'insecure-skip-tls-verify': true, 'certificate-authority': 'x' };
    refuses(await write({}, both), /certificate-authority has no use/);
  });
});

describe('an exec plugin', () => {
  const apiVersion = 'client.authentication.k8s.io/v1';

  /** A kubeconfig whose plugin is this shell script. It counts its runs in a file. */
  async function plugin(script: string, more: object = {}, cluster: object = {}): Promise<string> {
    const program = join(folder, 'plugin.sh');
    await writeFile(program, `#!/bin/sh\necho run >>"${folder}/runs"\n${script}\n`);
    await chmod(program, 0o755);
    await rm(join(folder, 'runs'), { force: true });
    return write({ exec: { apiVersion, command: './plugin.sh', ...more } }, cluster);
  }

  const runs = async () => (await readFile(join(folder, 'runs'), 'utf8')).trim().split('\n').length;

  function answer(status: object, version = apiVersion): string {
    return `cat <<'END'\n${JSON.stringify({ apiVersion: version, kind: 'ExecCredential', status })}\nEND`;
  }

  test('is run once, and again when the token has expired or was rejected', async () => {
    const inAnHour = new Date(Date.now() + 3_600_000).toISOString();
    const kept = kubeconfigAccess(await plugin(answer({ token: 'abc', expirationTimestamp: inAnHour })), '');
    for (let i = 0; i < 3; i++) assert.equal(await kept.identity.authorization(), 'Bearer abc');
    assert.equal(await runs(), 1);
    kept.identity.rejected();
    await Promise.all([kept.identity.authorization(), kept.tls()]);
    assert.equal(await runs(), 2);

    const before = new Date(Date.now() - 1000).toISOString();
    const old = kubeconfigAccess(await plugin(answer({ token: 'abc', expirationTimestamp: before })), '');
    for (let i = 0; i < 3; i++) await old.identity.authorization();
    assert.equal(await runs(), 3);
  });

  test('gets arguments, environment and, where it wants to, the cluster', async () => {
    const script = `printf '%s' "$KUBERNETES_EXEC_INFO" >"${folder}/info"\n${answer({ token: 't' }, 'client.authentication.k8s.io/v1beta1').replace('"t"', '"$1 $WHO"').replace("<<'END'", '<<END')}`;
    const file = await plugin(
      script,
      {
        apiVersion: 'client.authentication.k8s.io/v1beta1',
        args: ['one'],
        env: [{ name: 'WHO', value: 'two' }],
        provideClusterInfo: true,
      },
      { 'certificate-authority-data': base64('CA') },
    );
    assert.equal(await kubeconfigAccess(file, '').identity.authorization(), 'Bearer one two');
    assert.deepEqual(JSON.parse(await readFile(join(folder, 'info'), 'utf8')), {
      kind: 'ExecCredential',
      apiVersion: 'client.authentication.k8s.io/v1beta1',
      spec: {
        interactive: false,
        cluster: { server: 'https://api.example:6443', 'certificate-authority-data': base64('CA') },
      },
    });
  });

  test('may give a certificate', async () => {
    const file = await plugin(answer({ clientCertificateData: 'CERT', clientKeyData: 'KEY' }));
    const access = kubeconfigAccess(file, '');
    assert.equal(await access.identity.authorization(), null);
    assert.equal((await access.tls()).certificate?.cert.toString(), 'CERT');
  });

  test('fails with the reason, and is tried again', async () => {
    const fails = async (script: string, pattern: RegExp, more: object = {}) => {
      const { identity } = kubeconfigAccess(await plugin(script, more), '');
      for (let i = 0; i < 2; i++) {
        await assert.rejects(
          () => identity.authorization(),
          (error: Error) => {
            assert.ok(error instanceof FlannelError);
            assert.match(error.message, pattern);
            return true;
          },
        );
      }
      assert.equal(await runs(), 2);
    };
    await fails(
      'echo first >&2; echo no login >&2; exit 3',
      /plugin\.sh of the kubeconfig failed: no login; log in/,
      {
        installHint: 'log\nin',
      },
    );
    await fails('echo x', /its output is no JSON/);
    await fails(answer({}, 'v2'), /answered with "ExecCredential" of "v2"/);
    await fails(answer({}), /neither a token nor a certificate/);
    await fails(answer({ clientKeyData: 'x' }), /go together/);
    await fails(answer({ token: 'x', expirationTimestamp: 'soon' }), /"soon" is no time/);
  });

  test('that cannot work is refused at once', async () => {
    refuses(await write({ exec: { apiVersion } }), /has no command/);
    refuses(await write({ exec: { apiVersion: 'v1', command: 'x' } }), /has the apiVersion "v1"; known are/);
    const interactive = { apiVersion, command: 'x', interactiveMode: 'Always' };
    refuses(await write({ exec: interactive }), /wants a terminal/);
    const { identity } = kubeconfigAccess(
      await write({ exec: { apiVersion, command: 'no-such-program' } }),
      '',
    );
    await assert.rejects(
      () => identity.authorization(),
      /no-such-program of the kubeconfig failed: .*ENOENT/,
    );
  });
});

describe('in a pod', () => {
  test('the service account is used, and read anew', async () => {
    const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' };
    assert.throws(
      () => inClusterAccess({}),
      /unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST/,
    );
    assert.throws(() => inClusterAccess(env, folder), /there is no .*token/);
    await writeFile(join(folder, 'token'), 'one\n');
    await writeFile(join(folder, 'ca.crt'), 'CA');
    const { server, identity, tls } = inClusterAccess(env, folder);
    assert.equal(server.href, 'https://[fd00::1]/');
    assert.equal(await identity.authorization(), 'Bearer one');
    await writeFile(join(folder, 'token'), 'two');
    assert.equal(await identity.authorization(), 'Bearer two');
    assert.equal((await tls()).ca?.toString(), 'CA');
  });
});
