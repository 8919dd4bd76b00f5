import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { BackendObservation } from '../../src/backend/backend.js';
import { notifyServiceManager } from '../../src/dataplane.js';
import { allOk, describeFailures, livenessChecks, readinessChecks, summarize } from '../../src/health.js';
import type { Observed } from '../../src/health.js';
import { ServiceManager, watchdogMs } from '../../src/service-manager.js';
import { DaemonState } from '../../src/daemon-state.js';
import { parseFlags } from '../../src/flags.js';
import type { ExternalInterface } from '../../src/iface/external-interface.js';
import { Cidr6 } from '../../src/ip6.js';
import type { LeaseAttrs, LeaseSubnet } from '../../src/lease/lease.js';
import { daemonFamilies } from '../../src/metrics/daemon.js';
import { eventually } from '../lib/eventually.js';
import { NotifySocket } from '../lib/notify-socket.js';
import { attrsOf, captureLog, subnetOf } from '../lib/store.js';

const NOW = Date.UTC(2026, 0, 1);
const REACHABLE = {
  reachable: true,
  since: NOW,
  forMs: 60_000,
  lastError: null,
  tableRevision: '1',
  hasTable: true,
  silentForMs: 0,
};
const AWAY = { ...REACHABLE, reachable: false, lastError: 'refused' };
const STATS = {
  counters: new Float64Array(),
  histograms: [],
  features: [],
  routes: 3,
  failure: null,
  restarts: 0,
  standing: 'owner',
  standingReason: null,
  stoodBy: false,
} as const;
const BACKEND: BackendObservation = {
  plan: null,
  device: 'flannel0',
  mtu: 1472,
  repairs: new Map(),
  failure: null,
  dataplane: STATS,
};
const LEASE = {
  lease: {
    subnet: subnetOf('10.5.1.0/24'),
    attrs: attrsOf('192.0.2.1'),
    expiration: NOW + 1000,
    revision: '1',
  },
  renewAt: NOW,
  held: true,
};
const EXTERNAL = {
  name: 'eth0',
  linkIndex: 2,
  mtu: 1500,
  address: 1,
  publicIp: 1,
  addressV6: null,
  publicIpV6: null,
  chosenBy: null,
};
const WHEREABOUTS = { external: EXTERNAL, lost: null, running: true };

const RULES = {
  manager: 'iptables',
  inPlace: true,
  repairs: 3,
  lastRepair: new Date(NOW),
  lastError: null,
  incompleteSince: null,
} as const;
const BROKEN_RULES = { ...RULES, inPlace: false, lastError: 'iptables-restore: refused' };

const RUNNING: Observed = {
  phase: 'running',
  obstacle: null,
  storeHealth: REACHABLE,
  config: null,
  backendType: 'udp',
  backend: BACKEND,
  whereabouts: WHEREABOUTS,
  lease: LEASE,
  peerCount: 2,
  subnetFile: { path: '/run/subnet.env', writtenAt: NOW, error: null },
  trafficRules: RULES,
};
const START: Observed = {
  phase: 'starting',
  obstacle: null,
  storeHealth: null,
  config: null,
  backendType: null,
  backend: null,
  whereabouts: null,
  lease: null,
  peerCount: 0,
  subnetFile: null,
  trafficRules: null,
};

const failures = (state: Observed) => describeFailures(readinessChecks(state, NOW));
const alive = (state: Observed) => allOk(livenessChecks(state));

describe('alive', () => {
  const cases: readonly (readonly [string, Observed, boolean])[] = [
    ['at the start', START, true],
    [
      'while the store has not been asked',
      { ...START, storeHealth: { ...AWAY, lastError: null, hasTable: false } },
      true,
    ],
    ['not without a store and a table', { ...START, storeHealth: { ...AWAY, hasTable: false } }, false],
    ['without a store by its last table', { ...RUNNING, storeHealth: AWAY }, true],
    ['when all is well', RUNNING, true],
    ['not with a thread that stopped', { ...RUNNING, backend: { ...BACKEND, failure: 'EBADFD' } }, false],
    [
      'not when the dataplane was taken back',
      { ...RUNNING, backend: { ...BACKEND, dataplane: { ...STATS, standing: 'deposed' } } },
      false,
    ],
    [
      'with a backend that leaves packets to the kernel',
      { ...RUNNING, backend: { ...BACKEND, dataplane: null } },
      true,
    ],
    ['without a subnet file', { ...RUNNING, subnetFile: null }, true],
  ];
  for (const [name, state, expected] of cases) {
    test(name, () => {
      assert.equal(alive(state), expected);
    });
  }
});

describe('ready', () => {
  test('when all is well', () => {
    assert.equal(failures(RUNNING), '');
  });

  const cases: readonly (readonly [string, Partial<Observed>, RegExp])[] = [
    ['while it ends', { phase: 'stopping' }, /^phase failed: stopping$/],
    [
      'while it waits',
      { phase: 'waiting for a lease', obstacle: 'no more subnets' },
      /^phase failed: waiting for a lease: no more subnets$/,
    ],
    ['with a failed thread', { backend: { ...BACKEND, failure: 'EBADFD' } }, /^dataplane failed: EBADFD$/],
    [
      'without an address',
      { whereabouts: { ...WHEREABOUTS, lost: 'no address' } },
      /^interface failed: no address$/,
    ],
    [
      'without a carrier',
      { whereabouts: { ...WHEREABOUTS, running: false } },
      /^interface failed: eth0 is down$/,
    ],
    [
      'with a lease that was taken',
      { lease: { ...LEASE, held: false } },
      /^lease failed: 10\.5\.1\.0\/24 is not/,
    ],
    [
      'with a lease that ran out',
      { lease: { ...LEASE, lease: { ...LEASE.lease, expiration: NOW } } },
      /^lease failed: 10\.5\.1\.0\/24 ran out at 2026/,
    ],
    [
      'without its subnet file',
      { subnetFile: { path: '/x', writtenAt: null, error: 'cannot write' } },
      /^subnet-file failed: cannot write$/,
    ],
    [
      'with traffic rules that stay incomplete',
      { trafficRules: { ...BROKEN_RULES, incompleteSince: NOW - 60_000 } },
      /^traffic-rules failed: iptables, incomplete since 2025-\S+ \(60 s\): iptables-restore: refused$/,
    ],
  ];
  for (const [name, change, reason] of cases) {
    test(`not ${name}`, () => {
      assert.match(failures({ ...RUNNING, ...change }), reason);
    });
  }

  for (const [name, trafficRules, detail] of [
    ['that are in place', RULES, /^iptables, complete, repairs so far: 3$/],
    ['that are not wanted', { ...RULES, manager: null, inPlace: false }, /^none wanted$/],
    ['that cannot be looked at', BROKEN_RULES, /^iptables, cannot be looked at: iptables-restore: refused$/],
    [
      'that a reload has taken away',
      { ...BROKEN_RULES, incompleteSince: NOW - 59_000 },
      /^iptables, incomplete since \S+ \(59 s\)/,
    ],
  ] as const) {
    test(`with traffic rules ${name}`, () => {
      const checks = readinessChecks({ ...RUNNING, trafficRules }, NOW);
      assert.equal(describeFailures(checks), '');
      assert.match(checks.find((check) => check.name === 'traffic-rules')?.detail ?? '', detail);
    });
  }

  test('with a reservation, and without the store', () => {
    const reservation = { ...LEASE, lease: { ...LEASE.lease, expiration: null } };
    assert.equal(failures({ ...RUNNING, lease: reservation, storeHealth: AWAY }), '');
  });
});

test('the summary is one line', () => {
  const later = { ...LEASE, lease: { ...LEASE.lease, expiration: Date.now() + 100_000 } };
  assert.equal(summarize({ ...RUNNING, lease: later }), 'subnet 10.5.1.0/24, 2 peers, store reachable');
  assert.match(
    summarize({ ...RUNNING, lease: later, backend: { ...BACKEND, failure: 'EBADFD' } }),
    /^dataplane failed: EBADFD; subnet 10\.5\.1\.0\/24, 2 peers/,
  );
});

test('no secret of the store is told', () => {
  const storeHealth = { ...AWAY, hasTable: false, lastError: 'etcd at http://u:swordfish@h:1: refused' };
  const told = [
    describeFailures(livenessChecks({ ...RUNNING, storeHealth })),
    summarize({ ...RUNNING, storeHealth }),
    summarize({ ...START, storeHealth }),
  ];
  for (const text of told) assert.match(text, /away since .*: etcd at http:\/\/\*\*\*@h:1: refused/);
});

describe('the service manager', () => {
  test('wants to hear of a process in half of its time', () => {
    assert.equal(watchdogMs({ WATCHDOG_USEC: '30000000' }), 15_000);
    assert.equal(watchdogMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: String(process.pid) }), 15_000);
    assert.equal(watchdogMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '1' }), null);
    for (const text of [undefined, '', '0', '-1', 'x']) {
      assert.equal(watchdogMs(text === undefined ? {} : { WATCHDOG_USEC: text }), null);
    }
  });

  const command = parseFlags([], {});
  assert.ok(command.kind === 'run');
  const state = new DaemonState(command.options);

  test('is told nothing where there is none', () => {
    const sent: string[] = [];
    const service = new ServiceManager(state, {}, (message) => sent.push(message));
    service.ready();
    service.stop();
    assert.deepEqual(sent, []);
  });

  test('that is busy hears later that the daemon is ready', async () => {
    captureLog();
    const heard: string[] = [];
    let busy = true;
    const env = { NOTIFY_SOCKET: '/busy', WATCHDOG_USEC: '20000' };
    const service = new ServiceManager(state, env, (message) => {
      if (busy) throw new Error('EAGAIN');
      heard.push(message);
    });
    try {
      service.ready();
      busy = false;
      await eventually(() => heard.filter((message) => message === 'WATCHDOG=1').length >= 3);
    } finally {
      service.stop();
    }
    const rest = heard.filter((message) => message !== 'WATCHDOG=1');
    assert.deepEqual(rest, ['READY=1', 'STATUS=starting; store not asked yet', 'STOPPING=1']);
  });

  test('that does not read does not hold the daemon up', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'notify-'));
    const { NOTIFY_SOCKET } = process.env;
    const socket = await NotifySocket.open(join(folder, 'socket'));
    try {
      socket.pause();
      process.env.NOTIFY_SOCKET = socket.path;
      assert.throws(() => {
        for (let i = 0; i < 100_000; i++) notifyServiceManager(`STATUS=${i}`);
      }, /NOTIFY_SOCKET/);
    } finally {
      if (NOTIFY_SOCKET === undefined) delete process.env.NOTIFY_SOCKET;
      else process.env.NOTIFY_SOCKET = NOTIFY_SOCKET;
      await socket.close();
      rmSync(folder, { recursive: true });
    }
  });

  test('that cannot be reached is a warning, once', () => {
    const lines = captureLog();
    const service = new ServiceManager(state, { NOTIFY_SOCKET: '/nowhere' }, () => {
      throw new Error('gone');
    });
    service.ready();
    service.stop();
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? '', /^W.* cannot tell the service manager READY=1: gone/);
  });
});

describe('a host of IPv6', () => {
  const v6 = new Cidr6('fd00:10:5:1::', 64);
  const both = { v4: subnetOf('10.5.1.0/24').v4, v6 };
  const withSubnet = (subnet: LeaseSubnet): Observed => ({
    ...RUNNING,
    lease: { ...LEASE, lease: { ...LEASE.lease, subnet } },
  });
  const leaseDetail = (subnet: LeaseSubnet) =>
    readinessChecks(withSubnet(subnet), NOW).find(({ name }) => name === 'lease')?.detail;

  test('has its subnets of both families in the checks, or that of IPv6 alone', () => {
    assert.match(leaseDetail(both) ?? '', /^10\.5\.1\.0\/24 and fd00:10:5:1::\/64 until 2026-/);
    assert.match(leaseDetail({ v4: null, v6 }) ?? '', /^fd00:10:5:1::\/64 until 2026-/);
    assert.match(summarize(withSubnet(both)), /subnet 10\.5\.1\.0\/24 and fd00:10:5:1::\/64, 2 peers/);
  });

  test('has its addresses among the metrics, and "" for a family that it lacks', () => {
    const labels = (subnet: LeaseSubnet, attrs: LeaseAttrs, external: ExternalInterface) => {
      const command = parseFlags([], {});
      assert.equal(command.kind, 'run');
      const state = new DaemonState(command.options);
      state.add({
        keeper: { status: { ...LEASE, lease: { ...LEASE.lease, subnet, attrs } } },
        follower: { whereabouts: { ...WHEREABOUTS, external } },
      });
      const families = daemonFamilies(state);
      return ['flanneld_lease_info', 'flanneld_interface_info'].map(
        (name) => [...(families.find((family) => family.name === name)?.samples ?? [])][0]?.labels,
      );
    };
    const attrs = attrsOf('192.0.2.1', { publicIpV6: '2001:db8::1' });
    const external = { ...EXTERNAL, address: 0x0a000001, addressV6: 'fd77::1', publicIpV6: '2001:db8::1' };
    assert.deepEqual(labels(both, attrs, external), [
      {
        subnet: '10.5.1.0/24',
        ipv6_subnet: 'fd00:10:5:1::/64',
        public_ip: '192.0.2.1',
        ipv6_public_ip: '2001:db8::1',
      },
      { interface: 'eth0', address: '10.0.0.1', ipv6_address: 'fd77::1' },
    ]);
    const alone = labels({ v4: null, v6 }, attrsOf('2001:db8::1'), { ...external, address: null });
    assert.deepEqual(alone, [
      { subnet: '', ipv6_subnet: 'fd00:10:5:1::/64', public_ip: '', ipv6_public_ip: '2001:db8::1' },
      { interface: 'eth0', address: '', ipv6_address: 'fd77::1' },
    ]);
  });
});
