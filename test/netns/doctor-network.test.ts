/** flanneld doctor finds each fault of firewall, underlay and peers that is made here. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { FLANNELD } from '../../bench/daemon.js';
import type { Daemon } from '../../bench/daemon.js';
import { GATEWAY } from '../../bench/topology.js';
import { examine, faultsOf, healthyHosts, table } from '../lib/doctor.js';
import { CONFIG } from '../lib/network.js';
import type { TestNetwork } from '../lib/network.js';

let network: TestNetwork;
let daemons: Daemon[];
/** A process that holds the port. */
let taker: ChildProcess | undefined;
before(async () => {
  ({ network, daemons } = await healthyHosts());
});
after(() => network.close());

describe('the firewall', () => {
  const drop = '-p udp -m udp --dport 8285 -j DROP';
  table(() => network, {
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
      assert.deepEqual(faultsOf((await examine(network, 3)).findings), []);
    } finally {
      await host.exec('sh', '-ec', 'iptables -P INPUT ACCEPT; iptables -F; nft delete table inet fw');
    }
  });
});

describe('the rules of flanneld itself', () => {
  for (const [name, config] of [
    ['iptables', CONFIG],
    ['nftables', { ...CONFIG, EnableNFTables: true }],
  ] as const) {
    test(`by ${name} are no fault, and hide none`, async () => {
      const host = network.host(3);
      await writeFile(join(network.store, 'config'), JSON.stringify(config));
      const daemon = network.start(3, '--ip-masq');
      try {
        await daemon.ready(2);
        const { findings } = await examine(network, 3, ['--ip-masq']);
        assert.deepEqual(
          findings.filter(({ status }) => status !== 'ok'),
          [],
        );
        await host.exec('iptables', '-A', 'INPUT', '-p', 'udp', '--dport', '8285', '-j', 'DROP');
        const [fault] = faultsOf((await examine(network, 3, ['--ip-masq'])).findings);
        assert.match(fault?.found ?? '', /^iptables filter drops UDP 8285: -A INPUT/);
      } finally {
        await host.exec('iptables', '-F', 'INPUT');
        await daemon.stop();
        await cleanUp(3);
        await rm(join(network.store, 'subnets', daemon.overlaySubnet.replace('/', '-')));
        await rm(daemon.subnetFile);
        await writeFile(join(network.store, 'config'), JSON.stringify(CONFIG));
      }
    });
  }
});

/** Removes the traffic rules of a host. */
async function cleanUp(number: number): Promise<void> {
  const subnetFile = `--subnet-file=${join(network.folder, `host${number}.env`)}`;
  await network.host(number).exec(process.execPath, FLANNELD, 'cleanup', subnetFile);
}

describe('the underlay', () => {
  table(() => network, {
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
  table(() => network, {
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
      const { status, findings } = await examine(network, host, ['--peers']);
      assert.deepEqual([status, faultsOf(findings)], [0, []]);
    }
  });
});
