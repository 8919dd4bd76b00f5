/** wireguard-go, where it is installed: another userspace tunnel, which encrypts as well. */
import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCommand } from '../tools.js';
import type { Host } from '../topology.js';
import { endOf } from './contender.js';
import type { Contender, Overlay, Scenario, Site } from './contender.js';
import { ForwarderProcess, configureTun } from './process.js';

const NET = 97;
const PORT = 51820;
const OVERHEAD = 80; // as wg-quick takes off for either family of addresses

let devices = 0;

interface Member {
  readonly host: Host;
  readonly index: number;
  /** Its control socket lies in a folder that all hosts share, so names are used once. */
  readonly device: string;
  readonly publicKey: string;
  readonly keyFile: string;
}

export const wireguardGo: Contender = {
  name: 'wireguard-go',
  summary: 'wireguard-go, which also encrypts',
  unavailable: ({ routes }: Scenario) => {
    const missing = ['wireguard-go', 'wg'].filter((command) => !hasCommand(command));
    if (missing.length > 0) return Promise.resolve(`not installed: ${missing.join(', ')}`);
    return Promise.resolve(routes > 1 ? 'its routes are peers with keys of their own' : null);
  },
  async up({ hosts, scenario, folder }: Site): Promise<Overlay> {
    const members = await Promise.all(hosts.map((host, index) => enrol(host, index, folder)));
    const processes: ForwarderProcess[] = [];
    const down = async () => {
      await Promise.all(processes.map((process) => process.stop()));
    };
    try {
      for (const member of members) {
        const { host, device } = member;
        const process = ForwarderProcess.start(host, 'wireguard-go', ['-f', device], { LOG_LEVEL: 'error' });
        processes.push(process);
        await process.hasDevice(device);
        await host.exec('wg', ...settings(member, members));
        const { address } = endOf(NET, member.index);
        await configureTun(host, device, {
          address,
          mtu: scenario.mtu - OVERHEAD,
          network: `10.${NET}.0.0/16`,
        });
      }
    } catch (error) {
      await down();
      throw error;
    }
    return {
      ends: hosts.map((_, i) => endOf(NET, i)),
      forwarders: processes.map(({ pid }) => pid),
      notes: [],
      failure: () => processes.map((process) => process.failure()).find((text) => text !== null) ?? null,
      down,
    };
  },
};

async function enrol(host: Host, index: number, folder: string): Promise<Member> {
  const key = execFileSync('wg', ['genkey'], { encoding: 'utf8' });
  const publicKey = execFileSync('wg', ['pubkey'], { input: key, encoding: 'utf8' }).trim();
  const keyFile = join(folder, `${host.name}.key`);
  await writeFile(keyFile, key, { mode: 0o600 });
  return { host, index, device: `wgbench${devices++}`, publicKey, keyFile };
}

function settings(self: Member, members: readonly Member[]): string[] {
  const peers = members
    .filter((member) => member !== self)
    .flatMap(({ publicKey, host, index }) => [
      ...['peer', publicKey, 'endpoint', `${host.address}:${PORT}`],
      ...['allowed-ips', endOf(NET, index).subnet],
    ]);
  return ['set', self.device, 'listen-port', String(PORT), 'private-key', self.keyFile, ...peers];
}
