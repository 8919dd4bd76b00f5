/** flanneld doctor finds nothing on healthy hosts, and each of the faults that are made here. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { FLANNELD } from '../../bench/daemon.js';
import type { Daemon } from '../../bench/daemon.js';
import { GATEWAY } from '../../bench/topology.js';
import type { Finding } from '../../src/doctor/finding.js';
import { Etcd } from '../lib/etcd.js';
import { CONFIG, TestNetwork } from '../lib/network.js';
import { refusing } from '../lib/refuse.js';

/** Hosts 1 and 2 run flanneld, host 3 does not. */
let network: TestNetwork;
let daemons: Daemon[];
/** A process that holds the port. */
let taker: ChildProcess | undefined;

before(async () => {
  network = await TestNetwork.create(3);
  for (const host of network.topology.hosts) {
    await host.exec('sh', '-ec', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
  }
  daemons = [network.start(1), network.start(2)];
  for (const daemon of daemons) await daemon.ready(1);
});
after(() => network.close());

interface Result {
  readonly status: number | null;
  readonly findings: readonly Finding[];
  readonly stderr: string;
}

async function run(
  host: number,
  flags: readonly string[],
  wrapper: readonly string[] = [],
): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const store = flags.some((flag) => /^--(?:subnet-dir|etcd-endpoints)=/.test(flag));
  const all = [
    `--subnet-file=${join(network.folder, `host${host}.env`)}`,
    ...(store ? [] : [`--subnet-dir=${network.store}`]),
    ...flags,
  ];
  const command = [...wrapper, process.execPath, FLANNELD, 'doctor', ...all];
  const child = network.host(host).spawn(command[0] ?? '', command.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  await once(child, 'close');
  return { status: child.exitCode, stdout, stderr };
}

async function examine(
  host: number,
  flags: readonly string[] = [],
  wrapper?: readonly string[],
): Promise<Result> {
  const { status, stdout, stderr } = await run(host, ['--json', ...flags], wrapper);
  const { checks } = JSON.parse(stdout) as { checks: Finding[] };
  return { status, findings: checks, stderr };
}

const faultsOf = (findings: readonly Finding[]) =>
  findings.filter(({ status }) => status === 'warning' || status === 'error');

interface Fault {
  readonly host?: number;
  readonly flags?: () => readonly string[];
  readonly wrapper?: () => readonly string[] | Promise<readonly string[]>;
  /** Shell lines that make it on the host, and that take it away. */
  readonly make?: string;
  readonly mend?: string;
  /** The same for what is no shell line. */
  readonly before?: () => unknown;
  readonly after?: () => unknown;
  /** What is found: the check, how bad it is, words of the finding and of the remedy. */
  readonly expected: readonly [string, 'warning' | 'error', RegExp, RegExp];
}

/** Each fault is found by its check and no other, and nothing is found once it is mended. */
function table(faults: Readonly<Record<string, Fault>>): void {
  for (const [name, fault] of Object.entries(faults)) {
    test(name, async () => {
      const number = fault.host ?? 3;
      const host = network.host(number);
      if (fault.make !== undefined) await host.exec('sh', '-ec', fault.make);
      try {
        await fault.before?.();
        const { status, findings } = await examine(number, fault.flags?.(), await fault.wrapper?.());
        const [id, severity, found, remedy] = fault.expected;
        const shown = JSON.stringify(findings, null, 1);
        const faults = faultsOf(findings);
        assert.deepEqual([...new Set(faults.map((each) => each.id))], [id], shown);
        const match = faults.find((each) => each.status === severity && found.test(each.found));
        assert.ok(match, shown);
        assert.match(match.remedy ?? '', remedy);
        assert.ok((match.why ?? '').length > 10, shown);
        assert.equal(status, severity === 'error' ? 4 : 3);
      } finally {
        await fault.after?.();
        if (fault.mend !== undefined) await host.exec('sh', '-ec', fault.mend);
      }
    });
  }
}

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
      const { status, findings, stderr } = await examine(host, ['--peers']);
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
    const { status, findings } = await examine(3, ['--peers']);
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
    const { status, stdout } = await run(1, ['--peers']);
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
    const { status, findings } = await examine(3, [], nobody);
    assert.deepEqual(faultsOf(findings), []);
    const unseen = findings.filter((finding) => finding.status === 'skipped').map(({ id }) => id);
    for (const id of ['dataplane', 'capabilities', 'firewall'])
      assert.ok(unseen.includes(id), unseen.join(' '));
    assert.equal(status, 0);
  });
});

describe('the kernel', () => {
  table({
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

describe('the firewall', () => {
  const drop = '-p udp -m udp --dport 8285 -j DROP';
  table({
    'iptables drops what comes in': {
      make: `iptables -A INPUT ${drop}`,
      mend: 'iptables -F INPUT',
      expected: [
        'firewall',
        'error',
        /^iptables filter drops UDP 8285: -A INPUT/,
        new RegExp(`^iptables -t filter -D INPUT ${drop}$`),
      ],
    },
    'iptables drops in a chain of its own, from one peer': {
      make: `iptables -N guard; iptables -A guard -s 192.168.77.2/32 ! -i lo -m comment --comment "not him" -j REJECT; iptables -A INPUT -p udp -m multiport --dports 53,8000:9000 -j guard`,
      mend: 'iptables -F; iptables -X guard',
      expected: ['firewall', 'error', /-A guard -s 192\.168\.77\.2\/32/, /^iptables -t filter -D guard -s/],
    },
    'the policy of iptables drops': {
      make: 'iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A INPUT -p tcp --dport 22 -j ACCEPT; iptables -P INPUT DROP',
      mend: 'iptables -P INPUT ACCEPT; iptables -F',
      expected: [
        'firewall',
        'error',
        /the policy of INPUT/,
        /^iptables -t filter -I INPUT -p udp --dport 8285 -j ACCEPT$/,
      ],
    },
    'iptables drops what goes out': {
      make: `iptables -A OUTPUT -o eth+ ${drop}`,
      mend: 'iptables -F OUTPUT',
      expected: ['firewall', 'error', /-A OUTPUT/, /-D OUTPUT/],
    },
    'nftables drops': {
      make: "nft 'add table inet fw; add chain inet fw in { type filter hook input priority 0; }; add rule inet fw in iifname eth0 udp dport { 53, 8000-9000 } drop'",
      mend: 'nft delete table inet fw',
      expected: [
        'firewall',
        'error',
        /^nft inet fw drops UDP 8285: nft rule inet fw in handle/,
        /^nft delete rule inet fw in handle \d+$/,
      ],
    },
    'the policy of nftables drops': {
      make: "nft 'add table ip fw; add chain ip fw in { type filter hook input priority 0; policy drop; }; add rule ip fw in ct state established,related accept; add rule ip fw in tcp dport 22 accept'",
      mend: 'nft delete table ip fw',
      expected: [
        'firewall',
        'error',
        /the policy of in,/,
        /^nft insert rule ip fw in udp dport 8285 accept$/,
      ],
    },
  });

  test('that lets the tunnel pass is none of its business', async () => {
    const host = network.host(3);
    await host.exec(
      'sh',
      '-ec',
      'iptables -A INPUT -p udp --dport 8285 -j ACCEPT; iptables -A INPUT -p tcp -j DROP; iptables -P INPUT DROP;' +
        "nft 'add table inet fw; add chain inet fw in { type filter hook input priority 0; policy drop; }; add chain inet fw ours; add rule inet fw in ip saddr 192.168.77.0/24 jump ours; add rule inet fw ours udp dport 8285 counter accept'",
    );
    try {
      assert.deepEqual(faultsOf((await examine(3)).findings), []);
    } finally {
      await host.exec('sh', '-ec', 'iptables -P INPUT ACCEPT; iptables -F; nft delete table inet fw');
    }
  });
});

describe('the store', () => {
  const config = () => join(network.store, 'config');
  const restore = () => writeFile(config(), JSON.stringify(CONFIG));
  table({
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
        ['+1h', /clock is (?:3599|3600) s ahead of the store's/],
        ['-60s', /clock is (?:60|61) s behind the store's/],
      ] as const) {
        const { status, findings } = await examine(3, [], wrongClock(by));
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

  table({
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
    assert.deepEqual(faultsOf((await examine(3, flags())).findings), []);
    if (FAKETIME === undefined) return;
    const { findings } = await examine(3, flags(), wrongClock('+1h'));
    const [fault] = faultsOf(findings);
    assert.equal(fault?.id, 'clock', JSON.stringify(findings));
    assert.match(fault.found, /clock is (?:3599|360[01]) s ahead of the store's/);
  });
});

describe('the underlay', () => {
  table({
    'no default route': {
      make: 'ip route delete default',
      mend: `ip route add default via ${GATEWAY}`,
      expected: ['interface', 'error', /unable to find default route/, /--iface=NAME/],
    },
    'an interface that is down': {
      flags: () => ['--iface=eth0'],
      make: 'ip link set eth0 down',
      mend: `ip link set eth0 up; ip route add default via ${GATEWAY}`,
      expected: ['interface', 'error', /^eth0 \(192\.168\.77\.3\) is down$/, /^ip link set dev eth0 up/],
    },
    'an MTU that is too small for anything': {
      make: 'ip link set eth0 mtu 90',
      mend: 'ip link set eth0 mtu 1500',
      expected: ['mtu', 'error', /^eth0 has an MTU of 90$/, /^ip link set dev eth0 mtu 1500/],
    },
    'an MTU that is too small for comfort': {
      make: 'ip link set eth0 mtu 600',
      mend: 'ip link set eth0 mtu 1500',
      expected: ['mtu', 'warning', /^eth0 has an MTU of 600$/, /^ip link set dev eth0 mtu 1500/],
    },
    'an MTU below what containers were told': {
      before: () => writeFile(join(network.folder, 'host3.env'), 'FLANNEL_MTU=1472\n'),
      after: () => rm(join(network.folder, 'host3.env')),
      make: 'ip link set eth0 mtu 1400',
      mend: 'ip link set eth0 mtu 1500',
      expected: ['mtu', 'error', /tells containers an MTU of 1472, but eth0 leaves room for 1372/, /restart/],
    },
    'the port taken by another process': {
      before: async () => {
        const code = "require('dgram').createSocket('udp4').bind(8285, () => console.log('bound'))";
        taker = network
          .host(3)
          .spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
        await once(taker.stdout ?? taker, 'data');
      },
      after: async () => {
        taker?.kill();
        if (taker) await once(taker, 'close');
      },
      expected: ['port', 'error', /^UDP 0\.0\.0\.0:8285 is taken by process \d+ \(\S+\)$/, /ss -ulpn/],
    },
    'a narrow way that the kernel knows of': {
      make: 'ip route add 192.168.77.2 dev eth0 mtu 1400',
      mend: 'ip route delete 192.168.77.2',
      expected: ['path', 'warning', /^the way to the host 192\.168\.77\.2 carries 1400 bytes/, /mtu 1400/],
    },
    'no way to a peer': {
      make: 'ip route add unreachable 192.168.77.2',
      mend: 'ip route delete unreachable 192.168.77.2',
      expected: [
        'path',
        'error',
        /^there is no route to the host 192\.168\.77\.2 \(EHOSTUNREACH\)/,
        /^ip route add/,
      ],
    },
  });
});

describe('peers', () => {
  const lab = (line: string) => execFileSync('sh', ['-ec', line]);
  table({
    'one that does not answer': {
      host: 1,
      flags: () => ['--peers'],
      before: () => daemons[1]?.process.kill('SIGSTOP'),
      after: () => daemons[1]?.process.kill('SIGCONT'),
      expected: [
        'peers',
        'error',
        /\(host 192\.168\.77\.2\) does not answer over the overlay$/,
        /ping 192\.168\.77\.2/,
      ],
    },
    'one behind a narrow way': {
      host: 1,
      flags: () => ['--peers'],
      before: () => lab('ip link set port2 mtu 1400'),
      after: () => lab('ip link set port2 mtu 1500; ip link set underlay mtu 1500'),
      expected: [
        'peers',
        'warning',
        /^10\.244\.\d+\.0 \(host 192\.168\.77\.2\) answers, but only up to 1372 bytes of the 1472/,
        /ip link set dev INTERFACE mtu 1400 /,
      ],
    },
  });

  test('all faults are mended again', async () => {
    for (const host of [1, 2]) {
      const { status, findings } = await examine(host, ['--peers']);
      assert.deepEqual([status, faultsOf(findings)], [0, []]);
    }
  });
});

test('the flags of doctor are its own', async () => {
  const unknown = await run(3, ['--frobnicate']);
  assert.equal(unknown.status, 2);
  assert.match(unknown.stderr, /^flanneld: flag provided but not defined: -frobnicate/);
  const help = await run(3, ['--help']);
  assert.equal(help.status, 0);
  assert.match(help.stdout, /^Usage: flanneld doctor \[--json\] \[--peers\]/);
  const daemon = network.start(3, '--peers');
  await daemon.ended();
  assert.equal(daemon.exitCode, 2);
});
