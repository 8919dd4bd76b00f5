/** A command of the user's choice as a contender; README.md, "A contender of your own", is its contract. */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from '../topology.js';
import { endOf } from './contender.js';
import type { Contender, End, Overlay, Scenario, Site } from './contender.js';
import { ForwarderProcess, configureTun, deviceExists } from './process.js';

const NET = 99;
const DEVICE = 'bench0';
const OUTER_HEADERS = 28; // IPv4 and UDP, for a device that the harness has to configure
const START_MS = 30_000;

/** What the command is told: each as {name} in its text and as BENCH_NAME in its environment. */
export function parametersOf(
  index: number,
  addresses: readonly string[],
  scenario: Scenario,
  folder: string,
): Record<string, string> {
  const peer = 1 - index;
  return {
    host: String(index + 1),
    local: addresses[index] ?? '',
    peer: addresses[peer] ?? '',
    tun: DEVICE,
    address: endOf(NET, index).address,
    subnet: endOf(NET, index).subnet,
    peer_subnet: endOf(NET, peer).subnet,
    network: `10.${NET}.0.0/16`,
    mtu: String(scenario.mtu),
    dir: folder,
  };
}

/** Puts parameters in place of {name}; braces around anything else are the shell's. */
export function fillIn(command: string, parameters: Readonly<Record<string, string>>): string {
  return command.replace(/\{(\w+)\}/g, (text, name: string) => parameters[name] ?? text);
}

export function external(name: string, command: string): Contender {
  return {
    name,
    summary: `\`${command}\``,
    unavailable: ({ hosts, routes }) =>
      Promise.resolve(hosts > 2 || routes > 1 ? 'an external command is told of one peer' : null),
    up: (site) => start(command, site),
  };
}

async function start(command: string, site: Site): Promise<Overlay> {
  const addresses = site.hosts.map(({ address }) => address);
  const processes: ForwarderProcess[] = [];
  const folders: string[] = [];
  const down = async () => {
    // unshare(1) waits for its child with SIGTERM blocked; the child goes with it.
    await Promise.all(processes.map((process) => process.stop('SIGKILL')));
  };
  try {
    for (const [i, host] of site.hosts.entries()) {
      const folder = join(site.folder, `host${i + 1}`);
      await mkdir(folder);
      folders.push(folder);
      const parameters = parametersOf(i, addresses, site.scenario, folder);
      const env = Object.fromEntries(
        Object.entries(parameters).map(([key, value]) => [`BENCH_${key.toUpperCase()}`, value]),
      );
      const inner = ['sh', '-c', fillIn(command, parameters)];
      // The command may start processes of its own: with a process namespace around them they all end with it.
      const around = [
        '--pdeathsig',
        'SIGKILL',
        '--',
        'unshare',
        '--pid',
        '--fork',
        '--kill-child',
        '--mount-proc',
      ];
      processes.push(ForwarderProcess.start(host, 'setpriv', [...around, '--', ...inner], env));
    }
    const ends: End[] = [];
    for (const [i, process] of processes.entries()) {
      ends.push(await configured(process, site.hosts[i] ?? process.host, i, folders[i] ?? '', site.scenario));
    }
    return {
      ends,
      forwarders: processes.map(({ pid }) => pid),
      notes: [],
      failure: () => processes.map((process) => process.failure()).find((text) => text !== null) ?? null,
      down,
    };
  } catch (error) {
    await down();
    throw error;
  }
}

/** Waits until the host has an overlay address: by subnet.env, by the command, or else by us. */
async function configured(
  process: ForwarderProcess,
  host: Host,
  index: number,
  folder: string,
  { mtu }: Scenario,
): Promise<End> {
  const offered = endOf(NET, index);
  const deadline = performance.now() + START_MS;
  while (performance.now() < deadline) {
    const failure = process.failure();
    if (failure !== null) throw new Error(failure);
    const chosen = readSubnetFile(join(folder, 'subnet.env'));
    if (chosen !== null) return chosen;
    if ((await host.ip('-o', '-4', 'address', 'show')).includes(` ${offered.address}/`)) return offered;
    if (await deviceExists(host, DEVICE)) {
      const network = `10.${NET}.0.0/16`;
      await configureTun(host, DEVICE, { address: offered.address, mtu: mtu - OUTER_HEADERS, network });
      return offered;
    }
    await sleep(100);
  }
  throw new Error(
    `the command made no device ${DEVICE}, no address ${offered.address} and no subnet.env in ${START_MS / 1000} s`,
  );
}

/** The subnet that a flannel chose for itself; its address on the overlay is the subnet's first. */
function readSubnetFile(file: string): End | null {
  if (!existsSync(file)) return null;
  const match = /^FLANNEL_SUBNET=(\d+\.\d+\.\d+)\.(\d+)\/(\d+)$/m.exec(readFileSync(file, 'utf8'));
  if (match === null) return null;
  const [, head = '', last, length = ''] = match;
  const address = `${head}.${Number(last) - 1}`;
  return { address, subnet: `${address}/${length}` };
}
