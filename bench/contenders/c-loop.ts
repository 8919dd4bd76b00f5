/** The yardstick for `classic`: classic-loop.c between two hosts. */
import { compileTool } from '../tools.js';
import { endOf } from './contender.js';
import type { Contender, Overlay, Scenario, Site } from './contender.js';
import { ForwarderProcess, configureTun } from './process.js';

const NET = 96;
const DEVICE = 'loop0';
const OUTER_HEADERS = 28; // IPv4 and UDP

export const cLoop: Contender = {
  name: 'c-loop',
  summary: 'a bare one-thread read/sendto loop in C (bench/classic-loop.c)',
  unavailable: ({ hosts, routes }: Scenario) =>
    Promise.resolve(hosts > 2 || routes > 1 ? 'it knows a single peer' : null),
  async up({ hosts, scenario }: Site): Promise<Overlay> {
    const program = await compileTool('classic-loop');
    const processes: ForwarderProcess[] = [];
    const down = async () => {
      await Promise.all(processes.map((process) => process.stop()));
    };
    try {
      for (const [i, host] of hosts.entries()) {
        const peer = hosts[1 - i]?.address ?? '';
        const process = ForwarderProcess.start(host, program, [DEVICE, host.address, peer, '8285']);
        processes.push(process);
        await process.hasDevice(DEVICE);
        const mtu = scenario.mtu - OUTER_HEADERS;
        await configureTun(host, DEVICE, {
          address: endOf(NET, i).address,
          mtu,
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
