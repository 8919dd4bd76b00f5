/** flanneld of this checkout, or of another one, in its several tiers. */
import { execFile } from 'node:child_process';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Daemon, FLANNELD } from '../daemon.js';
import type { Contender, Overlay, Scenario, Site } from './contender.js';

const run = promisify(execFile);

/** No rules in the way of what is measured, and none that the host would need iptables for. */
const NO_RULES = '--iptables-forward-rules=false';
const LIKE_STOCK = ['--dataplane-receive-buffer=0', '--dataplane-send-buffer=0', '--dataplane-queues=1'];
const MOST_START_MS = 120_000;

/** A flanneld with certain flags. */
export interface FlannelOptions {
  readonly name: string;
  readonly summary: string;
  readonly flags: readonly string[];
  /** Flags that are left out, with a note, where this flanneld does not know them. */
  readonly wishes?: readonly string[];
  /** The program to run with Node.js; that of this checkout by default. */
  readonly main?: string;
}

export function flannel({ name, summary, flags, wishes = [], main = FLANNELD }: FlannelOptions): Contender {
  return {
    name,
    summary,
    unavailable: () => refusal(main, flags),
    async up(site: Site): Promise<Overlay> {
      const all = [...flags];
      const notes: string[] = [];
      for (const wish of wishes) {
        const refused = await refusal(main, [wish]);
        if (refused === null) all.push(wish);
        else notes.push(`${name} ran without ${wish} (${refused})`);
      }
      const daemons = await startDaemons(site, main, all);
      return {
        ends: daemons.map((daemon) => ({ address: daemon.overlayAddress, subnet: daemon.overlaySubnet })),
        forwarders: daemons.map((daemon) => daemon.process.pid ?? -1),
        notes: [...notes, ...features(name, daemons)],
        failure: () => failureOf(daemons),
        down: async () => {
          await Promise.all(daemons.map((daemon) => daemon.stop()));
        },
      };
    },
  };
}

/** The tiers of this checkout. `classic` stands for the stock proxy. */
export const TIERS: readonly FlannelOptions[] = [
  {
    name: 'classic',
    summary: 'flanneld, tier basic: one thread, one packet a system call, default socket buffers',
    flags: ['--dataplane-tier=basic', '--dataplane-threads=single'],
    wishes: LIKE_STOCK,
  },
  { name: 'batch', summary: 'flanneld, tier batch', flags: ['--dataplane-tier=batch'] },
  { name: 'udp-offload', summary: 'flanneld, tier udp-offload', flags: ['--dataplane-tier=udp-offload'] },
  { name: 'full', summary: 'flanneld, tier full', flags: ['--dataplane-tier=full'] },
];

/** What flanneld says against these flags, or null when it takes them. Flags are read before --version is served. */
export async function refusal(main: string, flags: readonly string[]): Promise<string | null> {
  try {
    await run(process.execPath, [main, ...flags, '--version']);
    return null;
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    return (
      (stderr ?? String(error))
        .trim()
        .replace(/^flanneld: /, '')
        .split('\n')[0] ?? 'it does not start'
    );
  }
}

async function startDaemons(site: Site, main: string, flags: readonly string[]): Promise<Daemon[]> {
  const store = join(site.folder, 'store');
  await writeStore(store, site.scenario);
  const daemons = site.hosts.map((host) => {
    const env = join(site.folder, `${host.name}.env`);
    return Daemon.start(host, env, [`--subnet-dir=${store}`, '--iface=eth0', NO_RULES, ...flags], [], main);
  });
  try {
    for (const daemon of daemons) await daemon.logged(/flannel is ready/, MOST_START_MS);
    for (const daemon of daemons) {
      for (const peer of daemons) {
        if (peer === daemon) continue;
        const subnet = peer.overlaySubnet.replaceAll('.', '\\.');
        await daemon.logged(new RegExp(`Subnet added: ${subnet} `), MOST_START_MS);
      }
    }
    // A daemon keeps its peers while the store is out of reach, and does not look through thousands of files again
    // and again while packets are measured.
    if (site.scenario.routes > 1) await rename(store, `${store}-gone`);
    return daemons;
  } catch (error) {
    await Promise.all(daemons.map((daemon) => daemon.stop()));
    throw error;
  }
}

/** The network config, and the leases of hosts that nobody sends to: one for each route but those to the peers. */
async function writeStore(store: string, { hosts, routes }: Scenario): Promise<void> {
  await mkdir(join(store, 'subnets'), { recursive: true });
  const many = routes > 1;
  const network = many ? { Network: '10.0.0.0/8', SubnetLen: 25 } : { Network: '10.244.0.0/16' };
  await writeFile(join(store, 'config'), JSON.stringify({ ...network, Backend: { Type: 'udp' } }));
  if (!many) return;
  const lease = JSON.stringify({ PublicIP: '192.168.77.250', PublicIPv6: null });
  const wanted = routes - (hosts - 1);
  for (let i = 0; i < wanted; i += 256) {
    const block = Array.from({ length: Math.min(256, wanted - i) }, (_, k) => i + k);
    // From the top of the network, since the daemons take their own subnets from the bottom.
    await Promise.all(
      block.map((n) => {
        const at = 0x0b00_0000 - (n + 1) * 128;
        const key = [at >>> 24, (at >>> 16) & 255, (at >>> 8) & 255, at & 255].join('.');
        return writeFile(join(store, 'subnets', `${key}-25`), lease);
      }),
    );
  }
}

/** What the daemon says about the features that it found. */
function features(name: string, [daemon]: readonly Daemon[]): string[] {
  const lines = daemon?.log
    .split('\n')
    .filter((line) => /dataplane/i.test(line) && !line.includes('CLI flags'));
  return (lines ?? []).map((line) => `${name}: ${line.replace(/^.*?\] /, '')}`);
}

function failureOf(daemons: readonly Daemon[]): string | null {
  const ended = daemons.find(({ exitCode }) => exitCode !== null);
  if (ended === undefined) return null;
  return `flanneld on ${ended.host.name} ended with status ${ended.exitCode ?? '?'}:\n${ended.log.slice(-1000)}`;
}
