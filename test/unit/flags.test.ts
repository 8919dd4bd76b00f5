import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FlannelError, UsageError } from '../../src/errors.js';
import { describeOptions, helpText, parseFlags, renewMarginMs } from '../../src/flags.js';
import type { Command, Options } from '../../src/flags.js';

type Run = Extract<Command, { kind: 'run' }>;

function run(argv: string[], env: Record<string, string> = {}): Run {
  const command = parseFlags(argv, env);
  assert(command.kind === 'run', command.kind);
  return command;
}

function options(...argv: string[]): Options {
  return run(argv).options;
}

function refuses(argv: string[], message: RegExp, env: Record<string, string> = {}): void {
  assert.throws(
    () => parseFlags(argv, env),
    (error: Error) => {
      assert(error instanceof UsageError, String(error));
      assert.match(error.message, message);
      assert(!error.message.includes('\n'));
      return true;
    },
    argv.join(' '),
  );
}

test('defaults', () => {
  const { options: all, warnings } = run([]);
  assert.deepEqual(warnings, []);
  assert.deepEqual(all, {
    backend: '',
    dataplaneDisable: [],
    dataplaneReceiveBuffer: 4 << 20,
    dataplaneSendBuffer: 32 << 20,
    dataplaneTier: 'auto',
    dataplaneQueues: 0,
    dataplaneSourcePorts: 1,
    dataplaneThreads: 'auto',
    etcdEndpoints: 'http://127.0.0.1:4001,http://127.0.0.1:2379',
    etcdPrefix: '/coreos.com/network',
    etcdKeyfile: '',
    etcdCertfile: '',
    etcdCafile: '',
    etcdUsername: '',
    etcdPassword: '',
    iface: [],
    ifaceRegex: [],
    ifaceCanReach: '',
    subnetFile: '/run/flannel/subnet.env',
    subnetDir: '',
    controlSocket: '',
    statusSocket: '',
    statusPage: false,
    handoverGeneration: 0,
    publicIp: '',
    publicIpv6: '',
    subnetLeaseRenewMargin: 60,
    ipMasq: false,
    ipMasqFullyRandomDisable: false,
    kubeSubnetMgr: false,
    kubeApiUrl: '',
    kubeAnnotationPrefix: 'flannel.alpha.coreos.com',
    kubeconfigFile: '',
    keepPrivileges: false,
    version: false,
    healthzIp: '0.0.0.0',
    healthzPort: 0,
    metricsPeers: 1000,
    loggingFormat: 'text',
    iptablesResync: 5,
    iptablesForwardRules: true,
    ipBlackholeRoute: false,
    netConfigPath: '/etc/kube-flannel/net-conf.json',
    setNodeNetworkUnavailable: true,
    udpPort: 0,
    v: 0,
    vmodule: '',
    logBacktraceAt: '',
  });
});

describe('syntax', () => {
  test('one dash or two, value with = or apart', () => {
    const spellings = [
      ['-public-ip=1.2.3.4'],
      ['--public-ip=1.2.3.4'],
      ['-public-ip', '1.2.3.4'],
      ['--public-ip', '1.2.3.4'],
    ];
    for (const argv of spellings) assert.equal(options(...argv).publicIp, '1.2.3.4');
  });

  test('values may be empty, hold = or look like flags', () => {
    assert.equal(options('-etcd-prefix=').etcdPrefix, '');
    assert.equal(options('-etcd-prefix', '').etcdPrefix, '');
    assert.equal(options('-etcd-password=a=b\n').etcdPassword, 'a=b\n');
    assert.equal(options('-etcd-prefix', '-v').etcdPrefix, '-v');
  });

  test('bool literals', () => {
    for (const text of ['1', 't', 'T', 'TRUE', 'true', 'True']) {
      assert.equal(options(`-set-node-network-unavailable=${text}`).setNodeNetworkUnavailable, true);
    }
    for (const text of ['0', 'f', 'F', 'FALSE', 'false', 'False']) {
      assert.equal(options(`-iptables-forward-rules=${text}`).iptablesForwardRules, false);
    }
    for (const text of ['yes', 'tRUE', '', 'on', '2']) {
      refuses([`-ip-masq=${text}`], /^invalid boolean value ".*" for -ip-masq; write true or false$/);
    }
  });

  test('a bool does not take the next argument, which ends the flags', () => {
    const { options: all, warnings } = run([
      '-set-node-network-unavailable',
      'false',
      '-v',
      '5',
      '-nonsense',
    ]);
    assert.equal(all.setNodeNetworkUnavailable, true);
    assert.equal(all.v, 0);
    assert.match(warnings.join(), /^Ignored all arguments from "false" on/);
  });

  test('-- and - end the flags', () => {
    assert.equal(options('-v=1', '--', '-v=2').v, 1);
    assert.equal(options('-v=1', '-', '-v=2').v, 1);
    assert.deepEqual(run(['-v=1', '--']).warnings, []);
  });

  const integers: [string, number][] = [
    ['5', 5],
    ['+5', 5],
    ['0x1f', 31],
    ['0X1F', 31],
    ['010', 8],
    ['0o17', 15],
    ['0b11', 3],
    ['1_000', 1000],
    ['0x_1f', 31],
    ['0_7', 7],
    ['0', 0],
    ['-0', 0],
    ['-7', -7],
    ['-0x10', -16],
  ];
  for (const [text, value] of integers) {
    test(`int ${text}`, () => {
      assert.equal(options(`-subnet-lease-renew-margin=${text}`).subnetLeaseRenewMargin, value);
    });
  }

  test('no ints', () => {
    for (const text of [
      '',
      'x',
      '08',
      '1__0',
      '_1',
      '1_',
      '0x',
      '1.0',
      '1e3',
      ' 1',
      '0b2',
      '99999999999999999999',
    ]) {
      refuses(
        [`-subnet-lease-renew-margin=${text}`],
        /^invalid value ".*" for flag -subnet-lease-renew-margin; .*write/,
      );
    }
  });

  test('repeated: the last scalar counts, lists grow', () => {
    const all = options('-v', '1', '-iface=eth0', '-v=3', '--iface', '10.0.0.1,x');
    assert.equal(all.v, 3);
    assert.deepEqual(all.iface, ['eth0', '10.0.0.1,x']);
  });

  test('log flags', () => {
    const all = options('-v=-1', '-vmodule=udp=2,w*=4', '-log_backtrace_at=udp.ts:3');
    assert.deepEqual([all.v, all.vmodule, all.logBacktraceAt], [-1, 'udp=2,w*=4', 'udp.ts:3']);
    refuses(['-v=0x1'], /^invalid value "0x1" for flag -v; write a whole decimal number/);
    refuses(['-v=3000000000'], /for flag -v/);
    refuses(['-vmodule=x'], /for flag -vmodule; write pattern=N/);
    refuses(['-log_backtrace_at=x'], /for flag -log_backtrace_at; write file.ts:LINE/);
    refuses(['-log-backtrace-at=x.ts:1'], /not defined/);
  });

  test('mistakes', () => {
    for (const arg of ['---v', '-=1', '--=1', '---']) refuses([arg], /^bad flag syntax: -/);
    refuses(['-nope'], /^flag provided but not defined: -nope; /);
    refuses(['-mtu=1400'], /^flag provided but not defined: -mtu; /);
    refuses(['-toString'], /^flag provided but not defined: -toString; /);
    refuses(['-V=1'], /not defined: -V/);
    refuses(['-public-ip'], /^flag needs an argument: -public-ip; write --public-ip=value$/);
  });

  test('garbage gives a command or a UsageError', () => {
    const arg = fc.oneof(
      fc.string(),
      fc.constantFrom('-v', '--iface', '-v=1', '--', 'x', '-', '--vmodule', 'a=1', '-h'),
    );
    fc.assert(
      fc.property(fc.array(arg, { maxLength: 6 }), (argv) => {
        try {
          parseFlags(argv, {});
        } catch (error) {
          assert(error instanceof UsageError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('help and version', () => {
  test('help', () => {
    for (const argv of [
      ['-h'],
      ['--help'],
      ['-help'],
      ['-h=1'],
      ['-v', '1', '-h', '-nope'],
      ['-version', '-h'],
    ]) {
      const command = parseFlags(argv, {}, '/opt/bin/flanneld');
      assert(command.kind === 'help');
      assert(command.text.startsWith('Usage: /opt/bin/flanneld [OPTION]...\n  -backend string\n    \t'));
    }
    refuses(['-nope', '-h'], /not defined/);
  });

  test('layout: sorted, a type word, defaults unless zero', () => {
    const text = helpText('flanneld');
    const names = [...text.matchAll(/^ {2}-(\S+)/gm)].map((match) => match[1] ?? '');
    assert.deepEqual(names, [...names].sort());
    assert.equal(names.length, Object.keys(options()).length);
    assert.match(
      text,
      /^ {2}-etcd-prefix string\n {4}\tkey prefix in etcd \(default "\/coreos.com\/network"\)$/m,
    );
    assert.match(text, /^ {2}-subnet-lease-renew-margin int\n {4}\t.* \(default 60\)$/m);
    assert.match(text, /^ {2}-ip-masq\n {4}\t[^(]*$/m);
    assert.match(text, /^ {2}-iptables-forward-rules\n {4}\t.* \(default true\)$/m);
    assert.match(text, /^ {2}-iface value\n {4}\t[^(]*$/m);
    assert.match(text, /^ {2}-v value\n {4}\t[^(]*$/m);
    assert.match(text, /^ {2}-vmodule value\n/m);
    assert.match(text, /^ {2}-log_backtrace_at value\n {4}\t.* \(default :0\)$/m);
    assert(text.endsWith('\n') && !text.endsWith('\n\n'));
  });

  test('version: from the command line only, after the whole of it was read', () => {
    assert.deepEqual(parseFlags(['-version', '-v=1'], { FLANNELD_IP_MASQ: 'true' }), { kind: 'version' });
    refuses(['-version', '-nope'], /not defined/);
    assert.equal(parseFlags(['-version=false'], {}).kind, 'run');
    assert.equal(parseFlags([], { FLANNELD_VERSION: 'true' }).kind, 'run');
  });
});

describe('environment', () => {
  test('fills in what the command line leaves out', () => {
    const env = {
      FLANNELD_ETCD_PREFIX: '/env',
      FLANNELD_PUBLIC_IP: '1.1.1.1',
      FLANNELD_V: '4',
      FLANNELD_VMODULE: 'udp=2',
      FLANNELD_LOG_BACKTRACE_AT: 'x.ts:1',
      FLANNELD_SUBNET_LEASE_RENEW_MARGIN: '0x10',
      FLANNELD_IFACE: 'eth0,eth1',
      FLANNELD_SUBNET_DIR: '/d',
    };
    const { options: all, warnings } = run(['-public-ip=2.2.2.2', '-etcd-prefix='], env);
    assert.deepEqual(warnings, []);
    assert.equal(all.publicIp, '2.2.2.2');
    assert.equal(all.etcdPrefix, '');
    assert.deepEqual([all.v, all.vmodule, all.logBacktraceAt], [4, 'udp=2', 'x.ts:1']);
    assert.equal(all.subnetLeaseRenewMargin, 16);
    assert.deepEqual(all.iface, ['eth0,eth1']);
    assert.equal(all.subnetDir, '/d');
  });

  test('empty is unset', () => {
    assert.equal(run([], { FLANNELD_ETCD_PREFIX: '' }).options.etcdPrefix, '/coreos.com/network');
  });

  test('a bad value is a warning and leaves the default', () => {
    const { options: all, warnings } = run([], {
      FLANNELD_V: 'high',
      FLANNELD_SUBNET_LEASE_RENEW_MARGIN: '1h',
      FLANNELD_IP_MASQ: 'on',
    });
    assert.deepEqual([all.v, all.subnetLeaseRenewMargin, all.ipMasq], [0, 60, false]);
    assert.equal(warnings.length, 3);
    for (const warning of warnings)
      assert.match(warning, /^Failed to set flag FLANNELD from env FLANNELD_\w+: "\w+" is not valid; write/);
  });

  test('a bad value that the command line overrides goes unnoticed', () => {
    assert.deepEqual(run(['-v=1'], { FLANNELD_V: 'high', FLANNELD_IP_MASQ: '' }).warnings, []);
  });
});

test('what needs no value of its own is accepted from the command line and from the environment alike', () => {
  const given = {
    'ip-masq': 'true',
    'ip-blackhole-route': '1',
    'kube-subnet-mgr': 't',
    'kubeconfig-file': '/etc/kubeconfig',
    'iface-can-reach': '1.1.1.1',
    'public-ipv6': '::1',
    'healthz-port': '8285',
    'iptables-resync': '6',
    'iptables-forward-rules': 'false',
    'net-config-path': '/etc/net-conf.json',
    'set-node-network-unavailable': 'F',
  };
  const fromLine = options(...Object.entries(given).map(([name, value]) => `--${name}=${value}`));
  const variables = Object.entries(given).map(([name, value]) => [
    `FLANNELD_${name.toUpperCase().replaceAll('-', '_')}`,
    value,
  ]);
  assert.deepEqual(run([], Object.fromEntries(variables) as Record<string, string>).options, fromLine);
  assert.equal(fromLine.ipMasq, true);
  assert.equal(fromLine.iptablesForwardRules, false);
  assert.equal(fromLine.kubeSubnetMgr, true);
  assert.equal(fromLine.setNodeNetworkUnavailable, false);
  assert.equal(fromLine.healthzPort, 8285);
  assert.equal(fromLine.ifaceCanReach, '1.1.1.1');
});

test('the command line overrides a variable', () => {
  const { options: both } = run(['-kube-subnet-mgr=false'], { FLANNELD_KUBE_SUBNET_MGR: 'true' });
  assert.equal(both.kubeSubnetMgr, false);
});

test('etcd over TLS and with a password', () => {
  const all = options(
    '-etcd-keyfile=k',
    '-etcd-certfile=c',
    '-etcd-cafile=a',
    '-etcd-username=u',
    '-etcd-password=p',
  );
  assert.deepEqual(
    [all.etcdKeyfile, all.etcdCertfile, all.etcdCafile, all.etcdUsername],
    ['k', 'c', 'a', 'u'],
  );
});

test('renew margin', () => {
  assert.equal(renewMarginMs(options()), 3_600_000);
  assert.equal(renewMarginMs({ subnetLeaseRenewMargin: 1 }), 60_000);
  assert.equal(renewMarginMs({ subnetLeaseRenewMargin: 1439 }), 86_340_000);
  for (const subnetLeaseRenewMargin of [0, 1440, -1]) {
    assert.throws(
      () => renewMarginMs({ subnetLeaseRenewMargin }),
      (error: Error) =>
        error instanceof FlannelError &&
        !(error instanceof UsageError) &&
        error.message.includes('from 1 to 1439'),
    );
  }
});

test('the description holds everything but secrets', () => {
  const text = describeOptions(
    options(
      '-etcd-password=hunter2',
      '-etcd-endpoints=http://u:hunter3@h:1,https://hunter4@h',
      '-iface=a',
      '-iface=b',
    ),
  );
  assert(text.startsWith('{backend: dataplaneDisable:[] dataplaneReceiveBuffer:4194304 '));
  assert(text.includes(' etcdEndpoints:http://***@h:1,https://***@h etcdPrefix:/coreos.com/network '));
  assert(text.includes(' etcdPassword:*** iface:[a b] ifaceRegex:[] '));
  assert(text.endsWith(' logBacktraceAt:}'));
  assert(!text.includes('hunter'));
  assert(describeOptions(options()).includes(' etcdPassword: '));
});

test('the words of a dataplane flag are checked', () => {
  assert.equal(options('--dataplane-tier=basic').dataplaneTier, 'basic');
  assert.equal(options('--dataplane-threads', 'single').dataplaneThreads, 'single');
  assert.throws(() => options('--dataplane-tier=turbo'), {
    name: 'UsageError',
    message:
      'invalid value "turbo" for flag -dataplane-tier; write one of auto, basic, batch, udp-offload, full',
  });
});
