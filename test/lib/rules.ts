/** The traffic rules as the system's own programs show them, and as they are to be. */
import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Host } from '../../bench/topology.js';

export type Variant = 'legacy' | 'nft';

/** What iptables-save is to show of the overlay's rules; `subnet` is null without masquerading. */
export function expectedIptables(
  network: string,
  subnet: string | null,
  multicast = '224.0.0.0/4',
): string[] {
  const forward = '-m comment --comment "flanneld forward"';
  const rules = [
    `-A FORWARD ${forward} -j FLANNEL-FWD`,
    `-A FLANNEL-FWD -s ${network} ${forward} -j ACCEPT`,
    `-A FLANNEL-FWD -d ${network} ${forward} -j ACCEPT`,
  ];
  if (subnet === null) return rules;
  const masq = '-m comment --comment "flanneld masq"';
  return [
    ...rules,
    `-A POSTROUTING ${masq} -j FLANNEL-POSTRTG`,
    `-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 ${masq} -j RETURN`,
    `-A FLANNEL-POSTRTG -s ${subnet} -d ${network} ${masq} -j RETURN`,
    `-A FLANNEL-POSTRTG -s ${network} -d ${subnet} ${masq} -j RETURN`,
    `-A FLANNEL-POSTRTG ! -s ${network} -d ${subnet} ${masq} -j RETURN`,
    `-A FLANNEL-POSTRTG -s ${network} ! -d ${multicast} ${masq} -j MASQUERADE --random-fully`,
    `-A FLANNEL-POSTRTG ! -s ${network} -d ${network} ${masq} -j MASQUERADE --random-fully`,
  ];
}

/** The same for `nft list table`. */
export function expectedNft(version: 4 | 6, network: string, subnet: string | null): string {
  const ip = version === 4 ? 'ip' : 'ip6';
  const multicast = version === 4 ? '224.0.0.0/4' : 'ff00::/8';
  const postrtg = [
    '\tchain postrtg {',
    '\t\tcomment "chain to manage traffic masquerading by flannel"',
    '\t\ttype nat hook postrouting priority srcnat; policy accept;',
    '\t\tmeta mark & 0x00004000 == 0x00004000 return',
    `\t\t${ip} saddr ${String(subnet)} ${ip} daddr ${network} return`,
    `\t\t${ip} saddr ${network} ${ip} daddr ${String(subnet)} return`,
    `\t\t${ip} saddr != ${network} ${ip} daddr ${String(subnet)} return`,
    `\t\t${ip} saddr ${network} ${ip} daddr != ${multicast} masquerade fully-random`,
    `\t\t${ip} saddr != ${network} ${ip} daddr ${network} masquerade fully-random`,
    '\t}',
    '',
  ];
  return [
    `table ${ip} flannel-ipv${version} {`,
    `\tcomment "rules for flannel-ipv${version}"`,
    ...(subnet === null ? [] : postrtg),
    '\tchain forward {',
    '\t\tcomment "chain to accept flannel traffic"',
    '\t\ttype filter hook forward priority filter; policy accept;',
    `\t\t${ip} saddr ${network} accept`,
    `\t\t${ip} daddr ${network} accept`,
    '\t}',
    '}',
    '',
  ].join('\n');
}

/** All rules of iptables that a variant shows, table by table. */
export async function iptablesRules(host: Host, variant: Variant, version: 4 | 6 = 4): Promise<string[]> {
  const { stdout } = await host.exec(`${version === 4 ? 'iptables' : 'ip6tables'}-${variant}-save`);
  return stdout.split('\n').filter((line) => line.startsWith('-A'));
}

/** What nft shows, without the tables that iptables-nft made: those of flannel, and what a test has made. */
export async function nftTable(host: Host, path: string): Promise<string> {
  return (await host.exec('nft', 'list', 'table', ...path.split(' '))).stdout;
}

export async function nftTables(host: Host): Promise<string[]> {
  const { stdout } = await host.exec('nft', 'list', 'tables');
  return stdout.split('\n').filter((line) => line.includes('flannel'));
}

/** A command behind which `iptables` is one variant, whatever the system's choice is. */
export async function withVariant(folder: string, variant: Variant): Promise<string[]> {
  const bin = join(folder, `iptables-is-${variant}`);
  if ((await mkdir(bin, { recursive: true })) !== undefined) {
    for (const stem of ['iptables', 'ip6tables']) {
      for (const suffix of ['', '-save', '-restore']) {
        await symlink(`/usr/sbin/xtables-${variant}-multi`, join(bin, `${stem}${suffix}`));
      }
    }
  }
  return ['env', `PATH=${bin}:${process.env.PATH ?? ''}`];
}
