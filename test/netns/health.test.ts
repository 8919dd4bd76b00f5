/** What a daemon tells of itself: over HTTP, to its service manager, in its log. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, readFile, rename, rm, rmdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Daemon } from '../../bench/daemon.js';
import { GATEWAY } from '../../bench/topology.js';
import { Etcd } from '../lib/etcd.js';
import { eventually } from '../lib/eventually.js';
import { CONFIG, failsWith, leftovers, TestNetwork } from '../lib/network.js';
import { NotifySocket } from '../lib/notify-socket.js';
import { succeed } from '../lib/succession.js';

const PORT = 8081;
const HEALTH = `--healthz-port=${PORT}`;
const PATIENCE_MS = 20_000;

let network: TestNetwork;

before(async () => {
  network = await TestNetwork.create(2);
});
afterEach(async () => {
  await network.stopAll();
  await network.emptyStore();
});
after(() => network.close());

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** Asks the daemon of host 1. */
async function get(path: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(`http://192.168.77.1:${PORT}${path}`, {
    ...init,
    signal: AbortSignal.timeout(5_000),
  });
  assert.match(response.headers.get('content-type') ?? '', /^text\/plain/);
  return { status: response.status, body: await response.text() };
}

async function becomes(path: string, status: number, body: RegExp): Promise<void> {
  await eventually(async () => {
    const answer = await get(path);
    assert.equal(answer.status, status, answer.body);
    assert.match(answer.body, body);
  }, PATIENCE_MS);
}

async function ready(...flags: string[]): Promise<Daemon> {
  const daemon = network.start(1, HEALTH, ...flags);
  await daemon.logged(/Subnet added|Watching/);
  await becomes('/readyz', 200, /^flanneld is ready$/);
  return daemon;
}

/** A daemon that finds iptables in `folder`, where a test can put something else. */
async function readyWithOwnPrograms(folder: string): Promise<Daemon> {
  await mkdir(folder);
  for (const name of ['iptables', 'iptables-save', 'iptables-restore']) {
    await symlink(`/usr/sbin/${name}`, join(folder, name));
  }
  const wrapper = ['env', `PATH=${folder}:${process.env.PATH ?? ''}`];
  const daemon = network.startBehind(wrapper, 1, HEALTH, '--iptables-resync=1');
  await becomes('/readyz', 200, /^flanneld is ready$/);
  return daemon;
}

describe('the health endpoint', () => {
  test('answers as stock flannel', async () => {
    await ready();
    const running = { status: 200, body: 'flanneld is running' };
    assert.deepEqual(await get('/healthz'), running);
    assert.deepEqual(await get('/healthz', { method: 'POST', body: 'x'.repeat(100_000) }), running);
    assert.deepEqual(await get('/readyz', { method: 'DELETE' }), { status: 200, body: 'flanneld is ready' });
    for (const path of ['/', '/healthz/', '/__proto__', '/toString', '//healthz']) {
      assert.equal((await get(path)).status, 404, path);
    }
    const { body } = await get('/readyz?verbose');
    assert.match(body, /^\[\+\]store ok: reachable\n\[\+\]dataplane ok: flannel0, owner, 0 routes, /);
    assert.match(body, /\nreadyz check passed\n$/);
  });

  test('is there before the network config is, and through an outage of etcd', async () => {
    const etcd = await Etcd.start({ address: GATEWAY });
    try {
      const daemon = network.start(1, HEALTH, `--etcd-endpoints=${etcd.endpoint}`);
      await daemon.logged(/Couldn't fetch network config/);
      assert.deepEqual(await get('/healthz'), { status: 200, body: 'flanneld is running' });
      assert.deepEqual(await get('/readyz'), { status: 503, body: 'flanneld is not ready yet' });
      assert.match(
        (await get('/readyz?verbose')).body,
        /\[-\]phase failed: waiting for the network config: .*not found.*\n/,
      );
      await etcd.ctl('put', '/coreos.com/network/config', JSON.stringify(CONFIG));
      await becomes('/readyz', 200, /ready/);
      await becomes('/metrics', 200, /\nflanneld_store_outage_seconds 0\n/);

      await etcd.kill();
      await becomes(
        '/healthz?verbose',
        200,
        /\[\+\]store ok: away since \d{4}-\S+ \(\d+ s\): .*; serving its last table/,
      );
      assert.deepEqual(await get('/healthz'), { status: 200, body: 'flanneld is running' });
      assert.match((await get('/metrics')).body, /\nflanneld_store_reachable 0\n/);
      await etcd.restart();
      await becomes('/healthz?verbose', 200, /\[\+\]store ok: reachable/);
    } finally {
      await network.stopAll();
      await etcd.close();
    }
  });

  test('fails where the store has never answered', async () => {
    network.start(1, HEALTH, '--etcd-endpoints=http://user:swordfish@192.168.77.1:1');
    await eventually(async () => {
      const { status, body } = await get('/healthz');
      assert.equal(status, 503);
      assert.match(body, /^flanneld is not healthy: store failed: away since .*192\.168\.77\.1:1/);
      assert.doesNotMatch(body, /swordfish/);
    }, PATIENCE_MS);
  });

  test('fails while no packets are moved', async () => {
    const daemon = await ready();
    // Ten times it is made again at once.
    for (let times = 1; times <= 11; times++) {
      await eventually(() => daemon.host.ip('link', 'delete', 'flannel0'), PATIENCE_MS);
      if (times > 10) break;
      await daemon.logged(new RegExp(`(?:made it again[^]*?){${times}}`), PATIENCE_MS);
    }
    await becomes('/healthz', 503, /^flanneld is not healthy: dataplane failed: /);
    await becomes('/healthz?verbose', 503, /\[-\]dataplane failed: [^]*healthz check failed\n$/);
    await becomes('/readyz', 503, /not ready/);
    assert.match((await get('/metrics')).body, /\nflanneld_dataplane_running 0\n/);
  });

  test('is not ready while the interface has no address', async () => {
    const daemon = await ready();
    const { host } = daemon;
    const ask = () =>
      host
        .exec('curl', '-s', '-m', '3', `http://127.0.0.1:${PORT}/readyz?verbose`)
        .then(({ stdout }) => stdout);
    await host.ip('address', 'flush', 'dev', 'eth0');
    await eventually(async () => {
      assert.match(await ask(), /\[-\]interface failed: /);
    }, PATIENCE_MS);
    await host.ip('address', 'add', `${host.address}/24`, 'dev', 'eth0');
    await host.ip('route', 'replace', 'default', 'via', GATEWAY);
    await becomes('/readyz', 200, /ready/);
  });

  test('gets ready when the subnet file can be written at last', async () => {
    const file = join(network.folder, 'folder.env');
    await mkdir(file);
    const daemon = network.start(1, HEALTH, `--subnet-file=${file}`);
    await daemon.logged(/Failed to write subnet file/);
    await becomes('/readyz?verbose', 503, /\[-\]subnet-file failed: cannot write .*folder\.env/);
    await rmdir(file);
    await becomes('/readyz', 200, /ready/);
    assert.match(daemon.log, /Wrote subnet file to [^]*flannel is ready/);
    assert.equal(daemon.log.match(/Failed to write/g)?.length, 1, daemon.log);
  });

  test('tells of the traffic rules, and of repairs, and stays ready meanwhile', async () => {
    const daemon = await ready('--iptables-resync=1');
    assert.match((await get('/readyz?verbose')).body, /\[\+\]traffic-rules ok: iptables, complete\n/);
    await daemon.host.exec('iptables', '-w', '-F', 'FLANNEL-FWD');
    await becomes('/metrics', 200, /\nflanneld_traffic_rules_repairs_total 1\n/);
    await becomes('/readyz?verbose', 200, /\[\+\]traffic-rules ok: iptables, complete, repairs so far: 1\n/);
    assert.match((await get('/metrics')).body, /\nflanneld_traffic_rules_in_place 1\n/);
  });

  test('tells when the traffic rules cannot be completed, and is still ready until that lasts', async () => {
    const folder = join(network.folder, 'broken-iptables');
    const daemon = await readyWithOwnPrograms(folder);
    await rename(join(folder, 'iptables-restore'), join(folder, 'moved'));
    await writeFile(join(folder, 'iptables-restore'), '#!/bin/sh\necho no room >&2\nexit 4\n', {
      mode: 0o755,
    });
    await daemon.host.exec('iptables', '-w', '-F', 'FLANNEL-FWD');
    await becomes(
      '/readyz?verbose',
      200,
      /\[\+\]traffic-rules ok: iptables, incomplete since \S+ \(\d+ s\): .*FLANNEL-FWD.*no room\n/,
    );
    assert.match((await get('/metrics')).body, /\nflanneld_traffic_rules_in_place 0\n/);
    await rm(join(folder, 'iptables-restore'));
    await rename(join(folder, 'moved'), join(folder, 'iptables-restore'));
    await becomes('/readyz?verbose', 200, /\[\+\]traffic-rules ok: iptables, complete, repairs so far: 1\n/);
  });

  test('needs a port of its own', async () => {
    const args = ['-m', 'http.server', '-b', '0.0.0.0', String(PORT)];
    const other = network.host(1).spawn('python3', args, { stdio: 'ignore' });
    try {
      await eventually(() => fetch(`http://192.168.77.1:${PORT}/`), PATIENCE_MS);
      await failsWith(
        network.start(1, HEALTH),
        1,
        /cannot listen on 0\.0\.0\.0:8081 for health checks: it is taken: end what listens there .* or set another --healthz-port/,
      );
    } finally {
      const closed = once(other, 'close');
      other.kill('SIGKILL');
      await closed;
    }
    await failsWith(
      network.start(1, HEALTH, '--healthz-ip=192.0.2.7'),
      1,
      /192\.0\.2\.7 is not an address of this host/,
    );
    await failsWith(network.start(1, '--healthz-port=65536'), 1, /Invalid healthz-port 65536/);
  });

  test('passes to the next flanneld with everything else', async () => {
    const first = await ready();
    const next = await succeed(
      () => network.start(1, HEALTH),
      () => first.exitCode !== null,
    );
    await first.ended();
    assert.equal(first.exitCode, 0, first.log);
    await next.logged(/Listening on 0\.0\.0\.0:8081/);
    await becomes('/readyz', 200, /ready/);
    assert.equal(await next.stop(), 0, next.log);
    assert.equal(await leftovers(network.host(1)), '');
  });
});

test('the log has the lines that operators look for', async () => {
  const etcd = await Etcd.start({ address: GATEWAY });
  try {
    await etcd.ctl('put', '/coreos.com/network/config', JSON.stringify(CONFIG));
    const daemon = network.start(1, `--etcd-endpoints=${etcd.endpoint}`);
    await daemon.logged(/Waiting for/);
    const subnets = '/coreos.com/network/subnets';
    await etcd.ctl('put', `${subnets}/10.244.250.0-24`, '{"PublicIP":"192.168.77.50","PublicIPv6":null}');
    await daemon.logged(/Subnet added/);
    await etcd.ctl('del', '--prefix', `${subnets}/`);
    await daemon.logged(/Lease renewed/);
    await daemon.stop();
    for (const line of [
      /Created subnet manager: Etcd Local Manager with Previous Subnet: (?:None|10\.244\.\d+\.0\/24)$/m,
      /Found network config - Backend type: udp$/m,
      /Wrote subnet file to \S+\.env$/m,
      /flannel is ready$/m,
      /Running backend\.$/m,
      /Watching for new subnet leases$/m,
      /Waiting for 2[23]h\d+m\d+s to renew lease$/m,
      /Subnet added: 10\.244\.250\.0\/24 via/m,
      /Subnet removed: 10\.244\.250\.0\/24$/m,
      /Lease renewed, new expiration: \d{4}-\S+$/m,
      /Exiting cleanly\.\.\.$/m,
    ]) {
      assert.match(daemon.log, line);
    }
  } finally {
    await network.stopAll();
    await etcd.close();
  }
});

describe('the service manager', () => {
  test('hears of start, state, life and end', async () => {
    const socket = await NotifySocket.open(join(network.folder, 'notify'));
    try {
      const wrapper = ['env', `NOTIFY_SOCKET=${socket.path}`, 'WATCHDOG_USEC=400000'];
      const daemon = network.startBehind(wrapper, 1);
      await daemon.logged(/flannel is ready/);
      await eventually(() => {
        assert.ok(socket.messages.filter((message) => message === 'WATCHDOG=1').length >= 3);
      }, PATIENCE_MS);
      await eventually(() => {
        const status = socket.messages.findLast((message) => message.startsWith('STATUS='));
        assert.match(status ?? '', /^STATUS=subnet 10\.244\.\d+\.0\/24, 0 peers, store reachable$/);
        assert.ok(socket.messages.includes('READY=1'));
      }, PATIENCE_MS);
      await daemon.stop();
      await eventually(() => socket.messages.at(-1) === 'STOPPING=1', PATIENCE_MS);
      assert.equal(socket.messages.filter((message) => message === 'READY=1').length, 1);
    } finally {
      await socket.close();
    }
  });

  test('hears nothing while the daemon is not alive', async () => {
    const socket = await NotifySocket.open(join(network.folder, 'notify'));
    try {
      const wrapper = ['env', `NOTIFY_SOCKET=${socket.path}`, 'WATCHDOG_USEC=400000'];
      const daemon = network.startBehind(wrapper, 1, '--etcd-endpoints=http://192.168.77.1:1');
      await eventually(() => {
        assert.ok(socket.messages.some((message) => /^STATUS=waiting for .*; store away/.test(message)));
      }, PATIENCE_MS);
      const mark = socket.messages.length;
      await daemon.logged(/(?:Couldn't fetch[^]*?){5}/);
      assert.ok(!socket.messages.slice(mark).includes('WATCHDOG=1'));
    } finally {
      await network.stopAll();
      await socket.close();
    }
  });
});

test('the log is JSON where that is asked for', async () => {
  const daemon = await ready(
    '--logging-format=json',
    `--subnet-dir=${network.store}`,
    '--etcd-password=swordfish',
  );
  await daemon.stop();
  const entries = daemon.log
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const about = (text: string) => entries.find(({ msg }) => String(msg).includes(text));
  assert.deepEqual(Object.keys(about('Running backend.') ?? {}), ['ts', 'level', 'caller', 'msg', 'v']);
  assert.match(String(about('Running backend.')?.caller), /^daemon\.ts:\d+$/);
  assert.match(String(about('CLI flags config')?.msg), /etcdPassword:\*\*\*/);
  assert.doesNotMatch(daemon.log, /swordfish/);
});

describe('metrics', () => {
  const ROOT_OF_TEST = new URL('../../../', import.meta.url);
  const FAMILY = /^# TYPE (\S+) (\S+)$/gm;

  /** Every sample as `name{labels}` and value, of a pair of hosts that have talked and of which something was repaired. */
  async function scrape(): Promise<string> {
    const [a, b] = await network.startAll(HEALTH);
    assert.ok(a && b);
    await a.host.exec('ping', '-n', '-c', '3', '-i', '0.1', '-s', '1000', b.overlayAddress);
    await a.host.ip('link', 'set', 'flannel0', 'down');
    await a.logged(/restored state up/);
    const { status, body } = await get('/metrics');
    assert.equal(status, 200);
    return body;
  }

  const valueOf = (body: string, series: string): number => {
    const line = body.split('\n').find((text) => text.startsWith(`${series} `));
    assert.ok(line !== undefined, `${series} is not in\n${body}`);
    return Number(line.slice(series.length + 1));
  };

  test('tell what has happened, are documented, and are what the dashboard asks for', async () => {
    const body = await scrape();
    assert.ok(valueOf(body, 'flanneld_peer_packets_out_total{peer="192.168.77.2:8285"}') >= 3);
    assert.ok(valueOf(body, 'flanneld_peer_bytes_in_total{peer="192.168.77.2:8285"}') >= 3 * 1028);
    assert.ok(valueOf(body, 'flanneld_encap_packets_out_total') >= 3);
    assert.ok(valueOf(body, 'flanneld_encap_latency_seconds_count') >= 1);
    assert.equal(valueOf(body, 'flanneld_peers'), 1);
    assert.equal(valueOf(body, 'flanneld_subnets'), 255);
    assert.equal(valueOf(body, 'flanneld_subnets_free'), 253);
    assert.equal(valueOf(body, 'flanneld_ready'), 1);
    assert.ok(valueOf(body, 'flanneld_device_repairs_total{what="state up"}') >= 1);
    const inAnHour = Date.now() / 1000 + 3_600;
    assert.ok(valueOf(body, 'flanneld_lease_expiry_timestamp_seconds') > inAnHour);
    assert.ok(valueOf(body, 'process_resident_memory_bytes') > 1e7);

    const names = [...body.matchAll(FAMILY)].map(([, name = '']) => name);
    const page = await readFile(new URL('docs/monitoring.md', ROOT_OF_TEST), 'utf8');
    const documented = [...page.matchAll(/^\| `([a-z_]+)(?:\{\w+\})?` /gm)].map(([, name = '']) => name);
    assert.deepEqual([...documented].sort(), [...names].sort());

    const series = new Set(body.split('\n').map((line) => /^\w+/.exec(line)?.[0]));
    const dashboard = await readFile(new URL('deploy/grafana-dashboard.json', ROOT_OF_TEST), 'utf8');
    const expressions = [...dashboard.matchAll(/"(?:expr|definition)": "((?:[^"\\]|\\.)*)"/g)].map(
      ([, text = '']) => text,
    );
    assert.ok(expressions.length > 40);
    for (const expression of expressions) {
      const asked = expression.match(/\b(?:flanneld|process|nodejs)_\w+/g) ?? [];
      assert.ok(asked.length > 0, expression);
      for (const name of asked) assert.ok(series.has(name), `${name}, of ${expression}, is in no scrape`);
    }
  });
});
