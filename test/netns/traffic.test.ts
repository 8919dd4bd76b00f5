/** The traffic rules: exactly which, whatever somebody does to them, and nothing left of others. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Daemon } from '../../bench/daemon.js';
import type { Host } from '../../bench/topology.js';
import { iptablesChains } from '../../src/traffic/rules.js';
import { presenceOf, restoreText } from '../../src/traffic/iptables-save.js';
import { eventually } from '../lib/eventually.js';
import { CONFIG, failsWith, TestNetwork } from '../lib/network.js';
import type { NetConf } from '../lib/network.js';
import {
  expectedIptables,
  expectedNft,
  iptablesRules,
  nftTable,
  nftTables,
  withVariant,
} from '../lib/rules.js';
import type { Variant } from '../lib/rules.js';
import { succeed } from '../lib/succession.js';

const NETWORK = '10.244.0.0/16';
const MASQ = ['--ip-masq', '--iptables-resync=1'];
const REPAIR_MS = 20_000;

let network: TestNetwork;
before(async () => {
  network = await TestNetwork.create(3);
});
afterEach(async () => {
  await network.stopAll();
  await writeConfig(CONFIG);
});
after(() => network.close());

async function writeConfig(config: NetConf): Promise<void> {
  await writeFile(join(network.store, 'config'), JSON.stringify(config));
}

async function start(number: number, variant: Variant, ...flags: readonly string[]): Promise<Daemon> {
  const daemon = network.startBehind(await withVariant(network.folder, variant), number, ...flags);
  await daemon.logged(/flannel is ready/);
  return daemon;
}

async function startNft(number: number, ...flags: readonly string[]): Promise<Daemon> {
  await writeConfig({ ...CONFIG, EnableNFTables: true });
  const daemon = network.start(number, ...flags);
  await daemon.logged(/flannel is ready/);
  return daemon;
}

/** The rules are, or soon become, exactly these. */
async function showsIptables(host: Host, variant: Variant, expected: readonly string[]): Promise<void> {
  await eventually(async () => {
    assert.deepEqual(await iptablesRules(host, variant), expected);
  }, REPAIR_MS);
}

async function showsNft(host: Host, subnet: string | null): Promise<void> {
  await eventually(async () => {
    assert.equal(await nftTable(host, 'ip flannel-ipv4'), expectedNft(4, NETWORK, subnet));
  }, REPAIR_MS);
}

/** Everything that somebody may do to the rules of iptables, as what iptables-restore --noflush takes. */
function iptablesDamages(subnet: string): string[] {
  const rules = expectedIptables(NETWORK, subnet);
  const inTable = (rule: string, lines: string) =>
    `*${rule.includes('POSTR') ? 'nat' : 'filter'}\n${lines}\nCOMMIT\n`;
  const jump = rules[3] ?? '';
  const deleted = jump.replace('-A', '-D');
  return [
    ...rules.map((rule) => inTable(rule, rule.replace('-A', '-D'))),
    inTable(jump, '-F FLANNEL-POSTRTG'),
    inTable(jump, `${deleted}\n-F FLANNEL-POSTRTG\n-X FLANNEL-POSTRTG`),
    inTable(jump, jump),
    inTable(jump, '-I FLANNEL-POSTRTG 1 -j RETURN'),
    `*filter\n-F\nCOMMIT\n*nat\n-F\nCOMMIT\n`,
  ];
}

async function repairsIptables(daemon: Daemon, variant: Variant): Promise<void> {
  const { host, overlaySubnet } = daemon;
  const expected = expectedIptables(NETWORK, overlaySubnet);
  await showsIptables(host, variant, expected);
  for (const damage of iptablesDamages(overlaySubnet)) {
    // Fails where there is nothing to damage.
    await host.exec('sh', '-c', `printf %s "$1" | iptables-${variant}-restore --noflush -w`, 'sh', damage);
    await showsIptables(host, variant, expected);
  }
  assert.match(daemon.log, /the traffic rules were changed by somebody; restored: .*FLANNEL-FWD/);
}

async function repairsNft(daemon: Daemon): Promise<void> {
  const { host, overlaySubnet } = daemon;
  const table = 'ip flannel-ipv4';
  await showsNft(host, overlaySubnet);
  const damages = [
    `flush chain ${table} postrtg`,
    `delete chain ${table} forward`,
    `delete table ${table}`,
    `insert rule ${table} forward drop`,
    `add chain ${table} other`,
    'flush ruleset',
  ];
  for (const damage of damages) {
    await host.exec('nft', ...damage.split(' '));
    await showsNft(host, overlaySubnet);
  }
  for (let rule = 0; rule < 8; rule++) {
    await deleteNftRule(host, rule);
    await showsNft(host, overlaySubnet);
  }
  assert.match(daemon.log, /restored: chain forward of table ip flannel-ipv4 was missing/);
}

async function deleteNftRule(host: Host, number: number): Promise<void> {
  const { stdout } = await host.exec('nft', '-a', 'list', 'table', 'ip', 'flannel-ipv4');
  let chain = '';
  const rules: (readonly [string, string])[] = [];
  for (const line of stdout.split('\n')) {
    chain = /^\tchain (\w+)/.exec(line)?.[1] ?? chain;
    const handle = /^\t\t(?:meta|ip) .* # handle (\d+)/.exec(line)?.[1];
    if (handle !== undefined) rules.push([chain, handle]);
  }
  const [of, handle] = rules[number] ?? ['', ''];
  await host.exec('nft', 'delete', 'rule', 'ip', 'flannel-ipv4', of, 'handle', handle);
}

describe('repair', () => {
  test('of every rule, chain and jump, complete and in order', async () => {
    const legacy = await start(1, 'legacy', ...MASQ);
    const nft = await start(2, 'nft', ...MASQ);
    const nftables = await startNft(3, ...MASQ);
    await Promise.all([repairsIptables(legacy, 'legacy'), repairsIptables(nft, 'nft'), repairsNft(nftables)]);
  });

  test('runs no program while nothing changes, where the kernel tells of changes', async () => {
    await (await start(1, 'nft', ...MASQ)).stop(); // what there was to be removed is gone
    const daemon = await start(1, 'nft', ...MASQ);
    const pid = String(daemon.process.pid);
    // Three periods without any, once it has looked at what its start itself has changed.
    await eventually(async () => {
      const before = await faultsOfChildren(pid);
      await daemon.host.exec('sleep', '3');
      assert.equal(await faultsOfChildren(pid), before);
    });
  });
});

/** The page faults of all child processes that the daemon has waited for: no program runs without any. */
async function faultsOfChildren(pid: string): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[8] ?? ''; // cminflt of proc(5)
}

describe('which rules', () => {
  test('by default, only those that accept forwarded packets', async () => {
    const daemon = network.start(1);
    await daemon.logged(/flannel is ready/);
    const variant = (await daemon.host.exec('iptables', '--version')).stdout.includes('legacy')
      ? 'legacy'
      : 'nft';
    await showsIptables(daemon.host, variant, expectedIptables(NETWORK, null));
    assert.equal(daemon.subnetEnv('FLANNEL_IPMASQ'), 'false');
  });

  test('none with --iptables-forward-rules=false, and those of the run before are gone', async () => {
    const first = await start(1, 'legacy', '--ip-masq');
    await first.stop();
    const { host } = first;
    assert.equal((await iptablesRules(host, 'legacy')).length, 10);
    await start(1, 'legacy', '--iptables-forward-rules=false');
    assert.deepEqual(await iptablesRules(host, 'legacy'), []);
  });

  test('they outlive the daemon, and are those of another subnet after its change', async () => {
    const first = await start(1, 'nft', '--ip-masq');
    const { host } = first;
    const before = first.overlaySubnet;
    await first.stop();
    assert.deepEqual(await iptablesRules(host, 'nft'), expectedIptables(NETWORK, before));
    await network.emptyStore();
    await writeConfig({ Network: '10.99.0.0/16', Backend: { Type: 'udp' } });
    const second = await start(1, 'nft', '--ip-masq');
    assert.notEqual(second.overlaySubnet, before);
    assert.deepEqual(
      await iptablesRules(host, 'nft'),
      expectedIptables('10.99.0.0/16', second.overlaySubnet),
    );
    assert.equal(second.subnetEnv('FLANNEL_IPMASQ'), 'true');
    await second.stop();
    await network.emptyStore();
  });

  test('without fully random ports where told so', async () => {
    const daemon = await start(1, 'nft', '--ip-masq', '--ip-masq-fully-random-disable');
    const rules = await iptablesRules(daemon.host, 'nft');
    assert.equal(rules.filter((rule) => rule.endsWith('-j MASQUERADE')).length, 2);
    await daemon.stop();
    const other = await startNft(1, '--ip-masq', '--ip-masq-fully-random-disable');
    const table = await nftTable(other.host, 'ip flannel-ipv4');
    assert.equal(table.match(/ masquerade$/gm)?.length, 2, table);
  });

  test('for IPv6 as well, where the network config has such a network', async () => {
    await writeConfig({ ...CONFIG, IPv6Network: 'fd00:5::/48' });
    const iptables = await start(2, 'nft', '--ip-masq');
    const { host } = iptables;
    assert.deepEqual(await iptablesRules(host, 'nft', 6), expectedIptables('fd00:5::/48', null));
    await iptables.stop();
    await writeConfig({ ...CONFIG, IPv6Network: 'fd00:5::/48', EnableNFTables: true });
    const nft = network.start(2);
    await nft.logged(/flannel is ready/);
    assert.equal(await nftTable(host, 'ip6 flannel-ipv6'), expectedNft(6, 'fd00:5::/48', null));
    assert.deepEqual(await iptablesRules(host, 'nft', 6), []);
  });

  test('of a host with a subnet of IPv6, as the programs take and show them', async () => {
    const family = { version: 6, network: 'fd00:5::/48', subnet: 'fd00:5:0:1::/64' } as const;
    const expected = expectedIptables(family.network, family.subnet, 'ff00::/8');
    const chains = iptablesChains(family, { masquerade: true, forward: true, randomFully: true });
    const text = restoreText(chains.map((chain) => [chain, presenceOf(undefined, chain)]));
    const host = network.host(2);
    for (const variant of ['legacy', 'nft'] as const) {
      const restore = `printf %s "$1" | ip6tables-${variant}-restore --noflush`;
      await host.exec('sh', '-c', restore, 'sh', text);
      assert.deepEqual(await iptablesRules(host, variant, 6), expected);
    }
    await writeConfig(CONFIG);
    await start(2, 'nft'); // which removes them, since there is no such network
    for (const variant of ['legacy', 'nft'] as const) {
      assert.deepEqual(await iptablesRules(host, variant, 6), []);
    }
  });

  test('rules of an early flannel, which were in the built-in chains, are recycled', async () => {
    const host = network.host(2);
    const nat = (...words: readonly string[]) => host.exec('iptables-legacy', '-w', '-t', 'nat', ...words);
    const comment = ['-m', 'comment', '--comment', 'flanneld masq'];
    await nat('-F');
    await nat('-A', 'POSTROUTING', '-s', NETWORK, ...comment, '-j', 'RETURN');
    await nat('-A', 'POSTROUTING', '-s', '10.1.0.0/16', '-j', 'RETURN');
    const daemon = await start(2, 'legacy', '--ip-masq');
    const expected = expectedIptables(NETWORK, daemon.overlaySubnet);
    expected.splice(3, 0, '-A POSTROUTING -s 10.1.0.0/16 -j RETURN');
    assert.deepEqual(await iptablesRules(host, 'legacy'), expected);
    await nat('-D', 'POSTROUTING', '1');
  });
});

describe('another manager', () => {
  test('from iptables to nftables and back, nothing is left of the other', async () => {
    const host = network.host(3);
    for (const variant of ['legacy', 'nft'] as const) {
      const iptables = await start(3, variant, '--ip-masq');
      const subnet = iptables.overlaySubnet;
      assert.deepEqual(await nftTables(host), []);
      assert.deepEqual(await iptablesRules(host, variant), expectedIptables(NETWORK, subnet));
      await iptables.stop();
      const nft = await startNft(3, '--ip-masq');
      assert.deepEqual(await iptablesRules(host, variant), []);
      assert.equal(await nftTable(host, 'ip flannel-ipv4'), expectedNft(4, NETWORK, subnet));
      assert.deepEqual(await nftTables(host), ['table ip flannel-ipv4', 'table ip6 flannel-ipv6']);
      await nft.stop();
      await writeConfig(CONFIG);
    }
  });

  test('from one variant of iptables to the other', async () => {
    const legacy = await start(1, 'legacy', '--ip-masq');
    await legacy.stop();
    await start(1, 'nft', '--ip-masq');
    assert.deepEqual(await iptablesRules(legacy.host, 'legacy'), []);
    assert.equal((await iptablesRules(legacy.host, 'nft')).length, 10);
  });

  test('while the one that is handed over by is still at work', async () => {
    const first = await start(1, 'nft', ...MASQ);
    await writeConfig({ ...CONFIG, EnableNFTables: true });
    const second = await succeed(
      () => network.start(1, ...MASQ),
      () => first.exitCode !== null,
    );
    await showsNft(second.host, second.overlaySubnet);
    await showsIptables(second.host, 'nft', []);
  });

  test('is not needed where it is not in use, and named with the remedy where it is', async () => {
    await writeConfig({ ...CONFIG, EnableNFTables: true });
    const nftOnly = network.startBehind(without('xtables-nft-multi', 'xtables-legacy-multi'), 1, '--ip-masq');
    await nftOnly.logged(/flannel is ready/);
    await nftOnly.stop();
    await failsWith(
      network.startBehind(without('nft'), 2),
      1,
      /nft is not installed: install nftables, or set EnableNFTables to false/,
    );
    await writeConfig(CONFIG);
    const noIptables = without('xtables-nft-multi', 'xtables-legacy-multi');
    await failsWith(
      network.startBehind(noIptables, 2),
      1,
      /iptables is not installed: install iptables, or set EnableNFTables .*--iptables-forward-rules=false/,
    );
    const iptablesOnly = network.startBehind(without('nft'), 1, '--ip-masq');
    await iptablesOnly.logged(/flannel is ready/);
    const neither = network.startBehind(
      without('xtables-nft-multi', 'xtables-legacy-multi', 'nft'),
      2,
      '--iptables-forward-rules=false',
    );
    await neither.logged(/flannel is ready/);
  });
});

/** A command behind which these programs of /usr/sbin cannot be run. */
function without(...programs: readonly string[]): string[] {
  const hide = programs.map((name) => `mount --bind /dev/null /usr/sbin/${name}`).join(' && ');
  return ['unshare', '--mount', 'sh', '-c', `${hide} && exec "$@"`, 'sh'];
}

describe('the host', () => {
  const hide = 'mount -t tmpfs tmpfs /proc/sys/net/bridge && exec "$@"';
  const noBridge = ['unshare', '--mount', 'sh', '-c', hide, 'sh'];

  test('without br_netfilter', async () => {
    await failsWith(
      network.startBehind(noBridge, 1),
      1,
      /Failed to check br_netfilter: .*bridge-nf-call-iptables.*; load it with `modprobe br_netfilter`/,
    );
    await writeConfig({ ...CONFIG, EnableNFTables: true });
    await network.startBehind(noBridge, 1).logged(/flannel is ready/);
  });

  test('that does not forward is warned about', async () => {
    await network.host(2).exec('sh', '-c', 'echo 0 > /proc/sys/net/ipv4/ip_forward');
    const daemon = network.start(2);
    await daemon.logged(/W.* forwards no packets, .*`sysctl -w net\.ipv4\.ip_forward=1`/);
  });

  test('a period that makes no sense', async () => {
    for (const value of ['0', '-3', '3000000']) {
      await failsWith(
        network.start(1, `--iptables-resync=${value}`),
        1,
        /Invalid iptables-resync .*: write a number of seconds from 1 to/,
      );
    }
  });
});

describe('blackhole route', () => {
  const blackholes = async (host: Host) => (await host.ip('route', 'show', 'type', 'blackhole')).trim();

  test('comes after a period, again when deleted, makes way for a bridge, and goes when it is not wanted', async () => {
    const daemon = await start(1, 'nft', '--ip-blackhole-route', '--iptables-resync=1');
    const { host, overlaySubnet } = daemon;
    const route = `blackhole ${overlaySubnet}`;
    const shows = (text: string) =>
      eventually(async () => {
        assert.equal(await blackholes(host), text);
      }, REPAIR_MS);
    await shows(route);
    await host.ip('route', 'delete', 'blackhole', overlaySubnet);
    await shows(route);
    await host.ip('link', 'add', 'cni0', 'type', 'bridge');
    await host.ip('link', 'set', 'cni0', 'up');
    await host.ip('address', 'add', daemon.subnetEnv('FLANNEL_SUBNET'), 'dev', 'cni0');
    await shows('');
    await host.ip('link', 'delete', 'cni0');
    await shows(route);
    await daemon.stop();
    assert.equal(await blackholes(host), route);
    await start(1, 'nft');
    assert.equal(await blackholes(host), '');
  });

  test('of another subnet goes', async () => {
    const first = await start(2, 'nft', '--ip-blackhole-route', '--iptables-resync=1');
    await eventually(async () => (await blackholes(first.host)) !== '', REPAIR_MS);
    await first.stop();
    await network.emptyStore();
    await writeConfig({ Network: '10.99.0.0/16', Backend: { Type: 'udp' } });
    const second = await start(2, 'nft', '--ip-blackhole-route', '--iptables-resync=1');
    await eventually(async () => {
      assert.equal(await blackholes(second.host), `blackhole ${second.overlaySubnet}`);
    }, REPAIR_MS);
  });
});

test('flanneld cleanup leaves everything as it was before', async () => {
  const host = network.host(2);
  await host.exec('iptables-legacy', '-w', '-A', 'FORWARD', '-s', '10.7.0.0/16', '-j', 'ACCEPT');
  await host.exec(
    'iptables-nft',
    '-w',
    '-t',
    'nat',
    '-A',
    'POSTROUTING',
    '-s',
    '10.7.0.0/16',
    '-j',
    'RETURN',
  );
  await host.exec('nft', 'add', 'table', 'inet', 'flannel');
  const everything = async () => {
    const outputs = await Promise.all([
      iptablesRules(host, 'legacy'),
      iptablesRules(host, 'nft'),
      nftTables(host),
      host.ip('route', 'show', 'table', 'all'),
    ]);
    return outputs.map(String).join('\n');
  };
  const clean = network.startBehind(await withVariant(network.folder, 'nft'), 2, '--ip-masq');
  await clean.logged(/flannel is ready/);
  await clean.stop();
  await cleanUp(clean);
  const before = await everything();
  for (const variant of ['legacy', 'nft'] as const) {
    const daemon = await start(2, variant, '--ip-masq', '--ip-blackhole-route', '--iptables-resync=1');
    await daemon.logged(/Added the blackhole route/);
    await daemon.stop();
    await cleanUp(daemon);
    assert.equal(await everything(), before);
  }
  const nft = await startNft(2, '--ip-masq');
  await nft.stop();
  assert.notEqual(await everything(), before);
  await cleanUp(nft);
  assert.equal(await everything(), before);
});

async function cleanUp({ host, subnetFile }: Daemon): Promise<void> {
  const main = new URL('../../src/main.js', import.meta.url).pathname;
  await host.exec(process.execPath, main, 'cleanup', `--subnet-file=${subnetFile}`);
}
