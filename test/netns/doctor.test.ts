/** flanneld doctor finds nothing on healthy hosts, and each fault of kernel and store that is made here. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { GATEWAY } from '../../bench/topology.js';
import { examine, faultsOf, healthyHosts, run, table } from '../lib/doctor.js';
import { Etcd } from '../lib/etcd.js';
import { CONFIG } from '../lib/network.js';
import type { TestNetwork } from '../lib/network.js';
import { refusing } from '../lib/refuse.js';

let network: TestNetwork;
before(async () => {
  ({ network } = await healthyHosts());
});
after(() => network.close());

const inMountNamespace = (line: string) => ['unshare', '--mount', 'sh', '-c', `${line} && exec "$@"`, 'sh'];
const without = (capability: string) => [
  'setpriv',
  `--bounding-set=-${capability}`,
  `--inh-caps=-${capability}`,
  '--',
];
const FAKETIME = ['x86_64', 'aarch64']
  .map((machine) => `/usr/lib/${machine}-linux-gnu/faketime/libfaketime.so.1`)
  .find(existsSync);
const wrongClock = (by: string) => [
  'env',
  `LD_PRELOAD=${FAKETIME ?? ''}`,
  `FAKETIME=${by}`,
  'FAKETIME_DONT_FAKE_MONOTONIC=1',
  'NO_FAKE_STAT=1',
];

describe('a healthy host', () => {
  test('that runs flanneld: nothing, not even a note', async () => {
    for (const host of [1, 2]) {
      const { status, findings, stderr } = await examine(network, host, ['--peers']);
      assert.deepEqual(
        findings.filter((finding) => finding.status !== 'ok'),
        [],
      );
      assert.equal(status, 0);
      assert.equal(stderr, '');
      const peers = findings.filter(({ id }) => id === 'peers').map(({ found }) => found);
      assert.equal(peers.length, 1);
      assert.match(
        peers[0] ?? '',
        /^10\.244\.\d+\.0 \(host 192\.168\.77\.[12]\) answers in .* up to 1472 bytes$/,
      );
    }
  });

  test('that does not run it yet: that, and nothing to mend', async () => {
    const { status, findings } = await examine(network, 3, ['--peers']);
    assert.deepEqual(
      findings.filter((finding) => finding.status !== 'ok').map(({ id, status: how }) => [id, how]),
      [
        ['daemon', 'note'],
        ['peers', 'skipped'],
      ],
    );
    assert.equal(status, 0);
  });

  test('as text: a line each, and one that sums up; no device and no file is left', async () => {
    const { status, stdout } = await run(network, 1, ['--peers']);
    assert.match(stdout, /^ {9}dataplane +tiers: basic, batch, udp-offload, full\n/);
    assert.match(stdout, /\n\nhealthy: 0 errors, 0 warnings, 0 notes, 0 not seen, \d+ fine\n$/);
    assert.equal(status, 0);
    assert.doesNotMatch(await network.host(1).ip('link'), /flandoctor/);
    assert.equal(execFileSync('ls', ['-A', network.store], { encoding: 'utf8' }), 'config\nsubnets\n');
  });

  test('without root: what cannot be seen is said, and is no fault', async (t) => {
    if (readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/)[2] === '1') {
      t.skip('needs users');
      return;
    }
    await chmod(network.folder, 0o755);
    const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all', '--'];
    const { status, findings } = await examine(network, 3, [], nobody);
    assert.deepEqual(faultsOf(findings), []);
    const unseen = findings.filter((finding) => finding.status === 'skipped').map(({ id }) => id);
    for (const id of ['dataplane', 'capabilities', 'firewall'])
      assert.ok(unseen.includes(id), unseen.join(' '));
    assert.equal(status, 0);
  });
});

describe('the kernel', () => {
  table(() => network, {
    'no /dev/net/tun': {
      wrapper: () => inMountNamespace('mount -t tmpfs tmpfs /dev/net'),
      expected: ['tun-device', 'error', /no TUN driver behind \/dev\/net\/tun \(ENOENT\)/, /^modprobe tun;/],
    },
    'no CAP_NET_ADMIN': {
      wrapper: () => without('net_admin'),
      expected: ['capabilities', 'error', /^CAP_NET_ADMIN is missing$/, /AmbientCapabilities=CAP_NET_ADMIN/],
    },
    'no CAP_NET_RAW': {
      wrapper: () => without('net_raw'),
      expected: ['capabilities', 'warning', /^CAP_NET_RAW is missing$/, /--cap-add NET_RAW/],
    },
    'a feature that is refused': {
      wrapper: () => refusing(['UDP_SEGMENT']),
      expected: ['dataplane', 'warning', /^the kernel does not give gso$/, /seccomp/],
    },
    'a feature that is refused and asked for': {
      flags: () => ['--dataplane-tier=full'],
      wrapper: () => refusing(['TUN_F_USO']),
      expected: ['dataplane', 'error', /^the kernel does not give uso$/, /^--dataplane-disable=uso, or/],
    },
    'no forwarding': {
      make: 'echo 0 > /proc/sys/net/ipv4/ip_forward',
      mend: 'echo 1 > /proc/sys/net/ipv4/ip_forward',
      expected: [
        'ip-forward',
        'error',
        /^net\.ipv4\.ip_forward is 0$/,
        /^sysctl -w net\.ipv4\.ip_forward=1$/,
      ],
    },
    'no forwarding from the overlay': {
      host: 1,
      make: 'echo 0 > /proc/sys/net/ipv4/conf/flannel0/forwarding',
      mend: 'echo 1 > /proc/sys/net/ipv4/conf/flannel0/forwarding',
      expected: [
        'ip-forward',
        'error',
        /^net\.ipv4\.conf\.flannel0\.forwarding is 0$/,
        /flannel0\.forwarding=1$/,
      ],
    },
    'a strict reverse path filter': {
      make: 'echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter',
      mend: 'echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter',
      expected: ['rp-filter', 'warning', /filter of eth0 is strict/, /all\.rp_filter=2$/],
    },
    'no br_netfilter': {
      wrapper: () => inMountNamespace('mount -t tmpfs tmpfs /proc/sys/net/bridge'),
      expected: ['br-netfilter', 'warning', /br_netfilter is not loaded/, /^modprobe br_netfilter$/],
    },
    'br_netfilter switched off': {
      make: 'echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables',
      mend: 'echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables',
      expected: ['br-netfilter', 'warning', /bridge-nf-call-iptables is 0/, /^sysctl -w/],
    },
  });
});

describe('the store', () => {
  const config = () => join(network.store, 'config');
  const restore = () => writeFile(config(), JSON.stringify(CONFIG));
  table(() => network, {
    'a directory that is not there': {
      flags: () => [`--subnet-dir=${network.folder}/nowhere`],
      expected: ['store', 'error', /nowhere: ENOENT/, /^mkdir -p .*nowhere/],
    },
    'no config': {
      before: () => rm(config()),
      after: restore,
      expected: ['config', 'error', /flannel config not found/, /^echo '\{"Network"/],
    },
    'a malformed config': {
      before: () => writeFile(config(), '{"Network":"10.244.0.0/16","SubnetLen":"24"}'),
      after: restore,
      expected: ['config', 'error', /SubnetLen is "24", expected a whole number/, /^echo /],
    },
    'another backend': {
      before: () => writeFile(config(), JSON.stringify({ ...CONFIG, Backend: { Type: 'vxlan' } })),
      after: restore,
      expected: ['backend', 'error', /^the backend is "vxlan"$/, /--backend=udp/],
    },
    'a port that makes no sense': {
      before: () => writeFile(config(), JSON.stringify({ ...CONFIG, Backend: { Type: 'udp', Port: 0 } })),
      after: restore,
      expected: ['backend', 'error', /Port 0 must be from 1 to 65535/, /mend/],
    },
    'two leases for one public IP': {
      before: async () => {
        await writeFile(join(network.folder, 'host3.env'), 'FLANNEL_SUBNET=10.244.50.1/24\n');
        for (const subnet of ['10.244.50.0-24', '10.244.99.0-24']) {
          await writeFile(
            join(network.store, 'subnets', subnet),
            '{"PublicIP":"192.168.77.3","PublicIPv6":null}',
          );
        }
      },
      after: async () => {
        await rm(join(network.folder, 'host3.env'));
        for (const subnet of ['10.244.50.0-24', '10.244.99.0-24']) {
          await rm(join(network.store, 'subnets', subnet));
        }
      },
      expected: [
        'public-ip',
        'error',
        /^10\.244\.99\.0-24 is leased for 192\.168\.77\.3 as well/,
        /--public-ip/,
      ],
    },
  });

  test(
    'a clock that is wrong',
    { skip: FAKETIME === undefined ? 'libfaketime is not installed' : false },
    async () => {
      for (const [by, words] of [
        ['+1h', /clock is (?:359\d|3600) s ahead of the store's/],
        ['-60s', /clock is 6\d s behind the store's/],
      ] as const) {
        const { status, findings } = await examine(network, 3, [], wrongClock(by));
        const [fault] = faultsOf(findings);
        assert.deepEqual([fault?.id, status], ['clock', 3], JSON.stringify(findings));
        assert.match(fault?.found ?? '', words);
      }
    },
  );
});

describe('etcd', () => {
  let etcd: Etcd;
  before(async () => {
    etcd = await Etcd.start({ address: GATEWAY });
  });
  after(() => etcd.close());
  const flags = () => [`--etcd-endpoints=${etcd.endpoint}`];
  const PUT = ['put', '/coreos.com/network/config', JSON.stringify(CONFIG)] as const;

  table(() => network, {
    'that nobody serves': {
      flags: () => [`--etcd-endpoints=http://${GATEWAY}:9`],
      expected: ['store', 'error', /^etcd at http:\/\/192\.168\.77\.254:9: /, /^etcdctl --endpoints=http/],
    },
    'without a config': {
      flags,
      expected: [
        'config',
        'error',
        /flannel config not found in etcd/,
        /^etcdctl put \/coreos\.com\/network\/config/,
      ],
    },
  });

  test('that is healthy, and a clock that is not', async () => {
    await etcd.ctl(...PUT);
    assert.deepEqual(faultsOf((await examine(network, 3, flags())).findings), []);
    if (FAKETIME === undefined) return;
    const { findings } = await examine(network, 3, flags(), wrongClock('+1h'));
    const [fault] = faultsOf(findings);
    assert.equal(fault?.id, 'clock', JSON.stringify(findings));
    assert.match(fault.found, /clock is (?:359\d|360[01]) s ahead of the store's/);
  });
});

test('the flags of doctor are its own', async () => {
  const unknown = await run(network, 3, ['--frobnicate']);
  assert.equal(unknown.status, 2);
  assert.match(unknown.stderr, /^flanneld: flag provided but not defined: -frobnicate/);
  const help = await run(network, 3, ['--help']);
  assert.equal(help.status, 0);
  assert.match(help.stderr, /^Usage: \S+ doctor \[--json\] \[--peers\] [^]*^ {2}-peers\n/m);
  const daemon = network.start(3, '--peers');
  await daemon.ended();
  assert.equal(daemon.exitCode, 2);
});
