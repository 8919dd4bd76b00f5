import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { StoreUnavailableError, UsageError } from '../../src/errors.js';
import { DEFAULT_TIMINGS } from '../../src/subnet/etcd/member.js';
import { EtcdRegistry } from '../../src/subnet/etcd/registry.js';
import type { EtcdRegistryOptions } from '../../src/subnet/etcd/registry.js';
import { Certificates } from '../lib/certificates.js';
import { Etcd } from '../lib/etcd.js';
import { eventually } from '../lib/eventually.js';
import { TcpProxy } from '../lib/tcp-proxy.js';
import {
  attrsOf,
  captureLog,
  DAY_SECONDS,
  forever,
  stopWatches,
  subnetOf,
  WatchTable,
} from '../lib/store.js';

const PREFIX = '/coreos.com/network';
const PASSWORD = 'open-sesame-4711';
const flannel = { username: 'flannel', password: PASSWORD };

const opened: EtcdRegistry[] = [];
afterEach(async () => {
  await stopWatches();
  for (const registry of opened.splice(0)) registry.close();
});

function open(etcd: Etcd, more: Partial<EtcdRegistryOptions> = {}): EtcdRegistry {
  const registry = new EtcdRegistry(
    {
      endpoints: [etcd.endpoint],
      prefix: PREFIX,
      caFile: '',
      certFile: '',
      keyFile: '',
      username: '',
      password: '',
      ...more,
    },
    { ...DEFAULT_TIMINGS, requestMs: 2_000 },
  );
  opened.push(registry);
  return registry;
}

describe('etcd: user and password', () => {
  let etcd: Etcd;
  const root = (...args: string[]): Promise<string> => etcd.ctl('--user', `root:${PASSWORD}`, ...args);
  before(async () => {
    etcd = await Etcd.start();
    await etcd.ctl('user', 'add', `root:${PASSWORD}`);
    await etcd.ctl('user', 'grant-role', 'root', 'root');
    await etcd.ctl('user', 'add', `flannel:${PASSWORD}`);
    await etcd.ctl('role', 'add', 'overlay');
    await etcd.ctl('user', 'grant-role', 'flannel', 'overlay');
  });
  after(() => etcd.close());

  it('are not needed, and do no harm, while authentication is off', async () => {
    const registry = open(etcd, flannel);
    assert.deepEqual(await registry.list(forever), []);
    await etcd.ctl('auth', 'enable');
  });

  it('are asked for in words that do not give them away', async () => {
    const lines = captureLog();
    for (const wrong of [{}, { username: 'flannel', password: `${PASSWORD}x` }]) {
      const registry = open(etcd, wrong);
      new WatchTable(registry);
      await assert.rejects(registry.list(forever), (error: Error) => {
        assert.ok(error instanceof StoreUnavailableError);
        assert.match(error.message, /user name is empty|authentication failed/);
        assert.ok(!String(error.stack).includes(PASSWORD));
        return true;
      });
      await eventually(() => lines.length > 0);
    }
    assert.ok(!lines.join('').includes(PASSWORD));
  });

  it('make a watch wait for permission, and go on when it is granted', { timeout: 200_000 }, async () => {
    const lines = captureLog();
    const registry = open(etcd, flannel);
    await assert.rejects(registry.list(forever), /permission denied/);
    const table = new WatchTable(registry);
    await eventually(() => lines.some((line) => line.includes('permission denied')));
    await root('role', 'grant-permission', 'overlay', '--prefix=true', 'readwrite', `${PREFIX}/`);
    await registry.create(subnetOf('10.5.1.0/24'), attrsOf('192.168.0.1'), DAY_SECONDS, forever);
    await table.becomes(['10.5.1.0-24 192.168.0.1']);
    assert.equal(lines.filter((line) => line.includes('lost etcd')).length, 1);

    await root('role', 'revoke-permission', 'overlay', '--prefix=true', `${PREFIX}/`);
    const second = new WatchTable(registry);
    await eventually(() => lines.filter((line) => line.includes('lost etcd')).length === 2);
    await root('role', 'grant-permission', 'overlay', '--prefix=true', 'readwrite', `${PREFIX}/`);
    await second.becomes(['10.5.1.0-24 192.168.0.1']);
  });

  it('give a new token when the old one is not valid any more', { timeout: 200_000 }, async () => {
    captureLog();
    const registry = open(etcd, flannel);
    const table = new WatchTable(registry);
    const lease = (await registry.list(forever))[0];
    assert.ok(lease);
    await etcd.kill(); // Simple tokens live in the member's memory.
    await etcd.restart();
    const renewed = await eventually(() =>
      registry.update(lease.subnet, attrsOf('192.168.0.7'), lease.revision, DAY_SECONDS, forever),
    );
    assert.ok(renewed);
    await table.becomes(['10.5.1.0-24 192.168.0.7']);
  });
});

describe('etcd: authentication that changes under a watch', () => {
  let etcd: Etcd;
  let proxy: TcpProxy;
  beforeEach(async () => {
    captureLog();
    etcd = await Etcd.start({ args: ['--bcrypt-cost=4'] });
    proxy = await TcpProxy.to(etcd.port);
    await etcd.ctl('user', 'add', `root:${PASSWORD}`);
    await etcd.ctl('user', 'grant-role', 'root', 'root');
    await etcd.ctl('user', 'add', `flannel:${PASSWORD}`);
    await etcd.ctl('role', 'add', 'overlay');
    await etcd.ctl('role', 'grant-permission', 'overlay', '--prefix=true', 'readwrite', `${PREFIX}/`);
    await etcd.ctl('user', 'grant-role', 'flannel', 'overlay');
  });
  afterEach(async () => {
    await stopWatches();
    await proxy.close();
    await etcd.close();
  });

  const put = (...login: string[]): Promise<string> =>
    etcd.ctl(
      ...login,
      'put',
      `${PREFIX}/subnets/10.5.1.0-24`,
      '{"PublicIP":"192.168.0.1","PublicIPv6":null}',
    );

  it('makes it log in once it is switched on', { timeout: 200_000 }, async () => {
    const table = new WatchTable(open(etcd, { endpoints: [proxy.endpoint], ...flannel }));
    await eventually(() => table.snapshots === 1);
    await etcd.ctl('auth', 'enable');
    proxy.reset();
    await put(`--user=root:${PASSWORD}`);
    await table.becomes(['10.5.1.0-24 192.168.0.1']);
    assert.equal(table.snapshots, 1, 'it went on where it was');
  });

  it('makes it give up a token of a store that was wiped', { timeout: 200_000 }, async () => {
    // etcd has a call with a token wait for the state in which that was given: one that is far away here.
    for (let n = 0; n < 30; n++) await put();
    await etcd.ctl('auth', 'enable');
    const table = new WatchTable(open(etcd, flannel));
    await table.becomes(['10.5.1.0-24 192.168.0.1']);
    await etcd.kill();
    await etcd.wipe();
    await etcd.restart();
    await table.becomes([]);
    await put();
    await table.becomes(['10.5.1.0-24 192.168.0.1']);
  });
});

const openssl = spawnSync('openssl', ['version']).status === 0;

describe('etcd: TLS', { skip: openssl ? false : 'no openssl to make certificates with' }, () => {
  let folder: string;
  let certificates: Certificates;
  const file = (name: string): string => certificates.file(name);

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'etcd-tls-'));
    certificates = new Certificates(folder);
    await certificates.authority('ca');
    await certificates.authority('other-ca');
    await certificates.signedBy('ca', 'server');
    await certificates.signedBy('ca', 'client');
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const server = (clientCertAuth: boolean) => ({
    tls: {
      caFile: file('ca.crt'),
      certFile: file('server.crt'),
      keyFile: file('server.key'),
      clientCertAuth,
    },
  });

  it('needs no more than the CA', { timeout: 200_000 }, async () => {
    captureLog();
    const etcd = await Etcd.start(server(false));
    try {
      for (const endpoint of [etcd.endpoint, `127.0.0.1:${etcd.port}`]) {
        const registry = open(etcd, { endpoints: [endpoint], caFile: file('ca.crt') });
        assert.deepEqual(await registry.list(forever), []);
      }
      for (const caFile of ['', file('other-ca.crt')]) {
        const registry = open(etcd, { caFile });
        await assert.rejects(registry.list(forever), /certificate/);
      }
    } finally {
      await etcd.close();
    }
  });

  it('refuses a certificate of the right authority for another address', { timeout: 200_000 }, async () => {
    captureLog();
    await certificates.signedBy('ca', 'elsewhere', '127.0.0.2');
    const tls = { ...server(false).tls, certFile: file('elsewhere.crt'), keyFile: file('elsewhere.key') };
    // etcdctl asks 127.0.0.2, where the certificate is right; the client asks 127.0.0.1, where it is not.
    const etcd = await Etcd.start({ tls, address: '127.0.0.2' });
    const proxy = await TcpProxy.to(etcd.port, '127.0.0.2');
    try {
      const caFile = file('ca.crt');
      assert.deepEqual(await open(etcd, { caFile }).list(forever), []);
      const endpoints = [`https://127.0.0.1:${proxy.port}`];
      await assert.rejects(
        open(etcd, { caFile, endpoints }).list(forever),
        /does not match certificate|altnames/,
      );
    } finally {
      await proxy.close();
      await etcd.close();
    }
  });

  it('does not make Node warn of an address that is no name', { timeout: 200_000 }, async () => {
    captureLog();
    const warnings: string[] = [];
    const onWarning = ({ message }: Error): void => void warnings.push(message);
    process.on('warning', onWarning);
    const etcd = await Etcd.start(server(false));
    try {
      const registry = open(etcd, { caFile: file('ca.crt') });
      assert.deepEqual(await registry.list(forever), []);
      await new Promise(setImmediate); // Warnings are emitted in the next tick.
      assert.deepEqual(warnings, []);
    } finally {
      process.off('warning', onWarning);
      await etcd.close();
    }
  });

  it('takes up certificates that were replaced', { timeout: 200_000 }, async () => {
    captureLog();
    const etcd = await Etcd.start(server(false));
    try {
      await copyFile(file('other-ca.crt'), file('rotated.crt'));
      const registry = open(etcd, { caFile: file('rotated.crt') });
      const table = new WatchTable(registry);
      await assert.rejects(registry.list(forever), /certificate/);
      await copyFile(file('ca.crt'), file('rotated.crt'));
      assert.deepEqual(await eventually(() => registry.list(forever)), []);
      await eventually(() => table.snapshots === 1);
    } finally {
      await etcd.close();
    }
  });

  it('shows the client certificate to a server that asks for it', { timeout: 200_000 }, async () => {
    captureLog();
    const etcd = await Etcd.start(server(true));
    try {
      const caFile = file('ca.crt');
      const registry = open(etcd, { caFile, certFile: file('client.crt'), keyFile: file('client.key') });
      assert.ok(await registry.create(subnetOf('10.5.1.0/24'), attrsOf('192.168.0.1'), DAY_SECONDS, forever));
      const anonymous = open(etcd, { caFile });
      await assert.rejects(anonymous.list(forever), StoreUnavailableError);
    } finally {
      await etcd.close();
    }
  });

  it(
    'takes up a client certificate that was replaced, and keeps the old one while the new is half written',
    {
      timeout: 200_000,
    },
    async () => {
      captureLog();
      const etcd = await Etcd.start(server(true));
      const proxy = await TcpProxy.to(etcd.port);
      try {
        await certificates.signedBy('other-ca', 'stranger');
        for (const suffix of ['crt', 'key'])
          await copyFile(file(`stranger.${suffix}`), file(`own.${suffix}`));
        const registry = open(etcd, {
          endpoints: [`https://127.0.0.1:${proxy.port}`],
          caFile: file('ca.crt'),
          certFile: file('own.crt'),
          keyFile: file('own.key'),
        });
        await assert.rejects(registry.list(forever), StoreUnavailableError);
        for (const suffix of ['crt', 'key']) await copyFile(file(`client.${suffix}`), file(`own.${suffix}`));
        assert.deepEqual(await eventually(() => registry.list(forever)), []);
        // A certificate without its key yet: whoever rotates them writes one after the other.
        await copyFile(file('stranger.crt'), file('own.crt'));
        await proxy.cut();
        await assert.rejects(registry.list(forever), StoreUnavailableError);
        await proxy.open();
        assert.deepEqual(await eventually(() => registry.list(forever)), []);
        await copyFile(file('client.crt'), file('own.crt'));
      } finally {
        await proxy.close();
        await etcd.close();
      }
    },
  );

  it('goes by name as well as by address', { timeout: 200_000 }, async () => {
    captureLog();
    const etcd = await Etcd.start(server(false));
    try {
      const registry = open(etcd, { endpoints: [`https://localhost:${etcd.port}`], caFile: file('ca.crt') });
      assert.deepEqual(await registry.list(forever), []);
    } finally {
      await etcd.close();
    }
  });

  it('names the flag whose file cannot be read', () => {
    const options = { endpoints: ['https://127.0.0.1:1'], prefix: PREFIX, username: '', password: '' };
    const missing = { ...options, caFile: file('nowhere.crt'), certFile: '', keyFile: '' };
    assert.throws(
      () => new EtcdRegistry(missing),
      (error: Error) => {
        assert.ok(error instanceof UsageError);
        assert.match(error.message, /--etcd-cafile.*nowhere\.crt/);
        return true;
      },
    );
  });
});

describe('etcd: endpoints', () => {
  const options = { prefix: PREFIX, caFile: '', certFile: '', keyFile: '', username: '', password: '' };

  it('are taken in every form that stock flannel takes', async () => {
    captureLog();
    const etcd = await Etcd.start({ args: [] });
    try {
      for (const endpoint of [
        `http://127.0.0.1:${etcd.port}`,
        `127.0.0.1:${etcd.port}`,
        `http://localhost:${etcd.port}/`,
      ]) {
        const registry = new EtcdRegistry({ ...options, endpoints: [endpoint] });
        assert.deepEqual(await registry.list(forever), [], endpoint);
        registry.close();
      }
    } finally {
      await etcd.close();
    }
  });

  it('may be unix sockets', async () => {
    captureLog();
    const folder = await mkdtemp(join(tmpdir(), 'etcd-socket-'));
    const etcd = await Etcd.start({ args: [] });
    const socket = join(folder, 'etcd.sock');
    const server = createServer((near) => {
      const far = connect(etcd.port, '127.0.0.1');
      near.pipe(far).pipe(near);
      for (const end of [near, far]) end.on('error', () => undefined);
    }).listen(socket);
    try {
      for (const endpoint of [`unix://${socket}`, `unix:${socket}`]) {
        const registry = new EtcdRegistry({ ...options, endpoints: [endpoint] });
        assert.deepEqual(await registry.list(forever), [], endpoint);
        registry.close();
      }
    } finally {
      server.close();
      await etcd.close();
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('are refused when they are none, without repeating what may be secret', () => {
    for (const endpoints of [
      [],
      [''],
      ['ftp://u:secret@x:1'],
      ['http://'],
      ['http://a:b:c'],
      ['http://[::1'],
    ]) {
      assert.throws(
        () => new EtcdRegistry({ ...options, endpoints }),
        (error: Error) => {
          assert.ok(error instanceof UsageError);
          assert.ok(!error.message.includes('secret'));
          return true;
        },
      );
    }
  });
});
