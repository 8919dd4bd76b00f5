/** Starts that cannot work: one line with cause and remedy, an exit status, and nothing left behind. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { Daemon } from '../../bench/daemon.js';
import type { Host } from '../../bench/topology.js';
import { CONFIG, failsWith, leftovers, TestNetwork } from '../lib/network.js';

let network: TestNetwork;
before(async () => {
  network = await TestNetwork.create(2);
});
afterEach(async () => {
  await network.stopAll();
  await writeConfig(CONFIG);
});
after(() => network.close());

async function writeConfig(config: object | string): Promise<void> {
  const text = typeof config === 'string' ? config : JSON.stringify(config);
  await writeFile(join(network.store, 'config'), text);
}

describe('what the kernel refuses', () => {
  test('no CAP_NET_ADMIN', async () => {
    const drop = ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin', '--'];
    await failsWith(
      network.startBehind(drop, 1),
      1,
      /cannot create the TUN device flannel%d: CAP_NET_ADMIN is missing; run as root/,
    );
  });

  test('a taken port, and the daemon that has it goes on', async () => {
    const first = network.start(1);
    await first.logged(/flannel is ready/);
    const second = Daemon.start(first.host, join(network.folder, 'second.env'), [
      `--subnet-dir=${network.store}`,
      '--public-ip=192.168.77.99',
    ]);
    await second.logged(/UDP 192\.168\.77\.1:8285 is taken, probably by another flanneld: end it/);
    await second.ended();
    assert.equal(second.exitCode, 1);
    assert.match(await first.host.ip('-o', 'link', 'show', 'type', 'tun'), /^\d+: flannel0:[^\n]*\n$/);
  });
});

describe('interfaces', () => {
  test('one that does not exist', async () => {
    const line =
      /Failed to find interface to use .*--iface=eth7: error looking up interface eth7: no such interface\); there is lo:\[127\.0\.0\.1 \(loopback\)\], eth0:\[192\.168\.77\.1\]/;
    await failsWith(network.start(1, '--iface=eth7'), 1, line);
  });

  test('an invalid public IP', async () => {
    await failsWith(
      network.start(1, '--public-ip=300.1.1.1'),
      1,
      /invalid public IP address: 300\.1\.1\.1; write --public-ip=/,
    );
  });

  test('no default route', async () => {
    await network.host(2).ip('route', 'delete', 'default');
    await failsWith(
      network.start(2),
      1,
      /unable to find default route: choose the interface with --iface; there is lo:/,
    );
    const chosen = network.start(2, '--iface=eth0');
    await chosen.logged(/Using interface with name eth0 and address 192\.168\.77\.2/);
    await chosen.logged(/flannel is ready/);
  });

  test('an MTU that is too small', async () => {
    const host = network.host(1);
    await setMtu(host, 90);
    try {
      await failsWith(
        network.start(1),
        1,
        /interface eth0 has an MTU of 90, but the udp backend needs at least 96: raise it/,
      );
    } finally {
      await setMtu(host, 1500);
    }
  });

  test('the first --iface that exists is taken, by name or by address', async () => {
    const byName = network.start(1, '--iface=eth7', '--iface=eth0');
    await byName.logged(/Using interface with name eth0 and address 192\.168\.77\.1/);
    await byName.stop();
    const byAddress = network.start(1, '--iface=192.168.77.1');
    await byAddress.logged(/Using interface with name eth0 and address 192\.168\.77\.1/);
  });

  test('a public IP of a NAT is announced, the interface comes from the default route', async () => {
    const daemon = network.start(1, '--public-ip=203.0.113.7');
    await daemon.logged(/Using 203\.0\.113\.7 as external address/);
    await daemon.logged(/flannel is ready/);
    assert.match(daemon.log, /Using interface with name eth0 and address 192\.168\.77\.1/);
  });
});

async function setMtu(host: Host, mtu: number): Promise<void> {
  await host.ip('link', 'set', 'eth0', 'mtu', String(mtu));
}

describe('network config', () => {
  test('a malformed one is named each second until it is mended', async () => {
    await writeConfig('{"Network":"10.244.0.0/16","SubnetLen":"24"}');
    const daemon = network.start(1);
    const complaint =
      "E\\d{4} [^\\n]*Couldn't fetch network config: [^\\n]*SubnetLen[^\\n]*expected[^\\n]*\\n";
    await daemon.logged(new RegExp(`(?:${complaint}[^]*?){2}`));
    await writeConfig(CONFIG);
    await daemon.logged(/flannel is ready/);
  });

  test('an unknown backend is named together with the known ones', async () => {
    await writeConfig({ ...CONFIG, Backend: { Type: 'VXLAN' } });
    await failsWith(network.start(1), 1, /unknown backend type: vxlan; supported: udp/);
    const overridden = network.start(1, '--backend=udp');
    await overridden.logged(/Found network config - Backend type: udp/);
    await overridden.logged(/flannel is ready/);
  });

  test('no free subnet', async () => {
    await writeConfig({ ...CONFIG, SubnetMin: '10.244.9.0', SubnetMax: '10.244.9.0' });
    const first = network.start(1);
    await first.logged(/flannel is ready/);
    await failsWith(network.start(2, '--iface=eth0'), 1, /out of subnets/);
  });

  test('a port of its own', async () => {
    await writeConfig({ ...CONFIG, Backend: { Type: 'udp', Port: 9000 } });
    const daemon = network.start(1);
    await daemon.logged(/flannel is ready/);
    assert.match((await daemon.host.exec('ss', '-Hulnp')).stdout, /192\.168\.77\.1:9000 /);
    await daemon.stop();
    await writeConfig({ ...CONFIG, Backend: { Type: 'udp', port: '9000' } });
    await failsWith(
      network.start(1),
      1,
      /error decoding UDP backend config: Port is "9000", expected a port number/,
    );
  });
});

describe('the command line', () => {
  const cases: [string, string[], RegExp][] = [
    [
      'an unknown flag',
      ['--frobnicate'],
      /^flanneld: flag provided but not defined: -frobnicate; --help lists the flags$/,
    ],
    [
      'a bad value',
      ['--ip-masq=perhaps'],
      /^flanneld: invalid boolean value "perhaps" for -ip-masq; write true or false$/,
    ],
  ];
  for (const [name, flags, line] of cases) {
    test(name, async () => {
      const daemon = Daemon.start(network.host(1), join(network.folder, 'env'), flags);
      await daemon.ended();
      assert.equal(daemon.exitCode, 2);
      assert.match(daemon.log.trimEnd(), line);
    });
  }

  test('a kubeconfig that is not there', async () => {
    const file = join(network.folder, 'kubeconfig');
    await failsWith(
      network.start(1, '--kube-subnet-mgr', `--kubeconfig-file=${file}`),
      1,
      /Failed to create SubnetManager: .*kubeconfig: ENOENT/,
    );
  });

  test('a renew margin out of range', async () => {
    await failsWith(
      network.start(1, '--subnet-lease-renew-margin=1440'),
      1,
      /Invalid subnet-lease-renew-margin 1440: write/,
    );
  });
});

describe('a lease', () => {
  test('is kept over a restart, by public IP', async () => {
    const first = network.start(1);
    await first.logged(/flannel is ready/);
    const subnet = first.subnetEnv('FLANNEL_SUBNET');
    await first.stop();
    await writeFile(first.subnetFile, '');
    const second = network.start(1);
    await second.logged(/Found lease \(ip: .*\) for current IP \(192\.168\.77\.1\), reusing/);
    await second.logged(/flannel is ready/);
    assert.equal(second.subnetEnv('FLANNEL_SUBNET'), subnet);
  });

  test('is taken again from subnet.env when the store has lost it', async () => {
    const first = network.start(1);
    await first.logged(/flannel is ready/);
    const subnet = first.subnetEnv('FLANNEL_SUBNET');
    await first.stop();
    await network.emptyStore();
    const second = network.start(1);
    await second.logged(/flannel is ready/);
    assert.equal(second.subnetEnv('FLANNEL_SUBNET'), subnet);
    assert.match(second.log, /Directory Local Manager with Previous Subnet: 10\.244\./);
  });

  test('that was deleted under the daemon is claimed again', async () => {
    const daemon = network.start(1);
    await daemon.logged(/flannel is ready/);
    await network.emptyStore();
    await daemon.logged(/has been revoked; claiming it again/);
    await daemon.logged(/Lease renewed, new expiration/);
    assert.equal(daemon.exitCode, null);
  });

  test('beside broken entries: those are skipped with a warning, the others are routed', async () => {
    await writeFile(
      join(network.store, 'subnets', '10.244.300.0-24'),
      '{"PublicIP":"192.168.77.9","PublicIPv6":null}',
    );
    await writeFile(join(network.store, 'subnets', '10.244.8.0-24'), '{"PublicIP":');
    const [a, b] = await network.startAll('--iface=eth0');
    assert.ok(a && b);
    await a.logged(/W\d{4} .*10\.244\.300\.0-24/);
    await a.logged(/W\d{4} .*10\.244\.8\.0-24/);
    await a.host.exec('ping', '-c', '1', '-W', '2', b.overlayAddress);
  });
});

test('SIGTERM and SIGINT end the daemon cleanly', async () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const daemon = network.start(1);
    await daemon.logged(/flannel is ready/);
    assert.equal(await daemon.stop(signal), 0);
    assert.match(daemon.log, /Exiting cleanly\.\.\.\n$/);
    assert.equal(await leftovers(daemon.host), '');
  }
});
