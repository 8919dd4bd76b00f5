/** TCP throughput by iperf3: one stream and four, either way and both ways at once. */
import { CpuMeter } from '../measure/cpu.js';
import { RunningTool } from '../tools.js';
import { costs, firstHost, only, secondHost } from './trial.js';
import type { Bed, Reading, Trial } from './trial.js';

const PORT = '5201';

type Direction = 'forward' | 'reverse' | 'bidir';

/** The part of iperf3's report that counts. */
interface Iperf {
  readonly error?: string;
  readonly end: {
    readonly sum_received?: IperfSum;
    readonly sum_received_bidir_reverse?: IperfSum;
  };
}

interface IperfSum {
  readonly bytes: number;
  readonly bits_per_second: number;
}

/** Streams from the first host to the second, or as `direction` says, for whole seconds. */
async function iperf(bed: Bed, streams: number, direction: Direction, seconds: number): Promise<IperfSum[]> {
  const { host, address } = secondHost(bed);
  const server = await RunningTool.start(
    host,
    'iperf3',
    ['-s', '-1', '-B', address, '-p', PORT, '--forceflush'],
    /listening on/,
  );
  const way = { forward: [], reverse: ['-R'], bidir: ['--bidir'] }[direction];
  const length = ['-t', String(Math.max(1, Math.round(seconds)))];
  const client = ['-c', address, '-p', PORT, '-P', String(streams), '-J', '--connect-timeout', '3000'];
  try {
    const { stdout } = await firstHost(bed).exec('iperf3', ...client, ...length, ...way);
    return sums(JSON.parse(stdout) as Iperf);
  } catch (error) {
    const { stdout } = error as { stdout?: string };
    const reason = stdout === undefined || stdout === '' ? null : (JSON.parse(stdout) as Iperf).error;
    throw new Error(`iperf3: ${reason ?? String(error)}`, { cause: error });
  } finally {
    await server.kill();
  }
}

function sums({ error, end }: Iperf): IperfSum[] {
  if (error !== undefined) throw new Error(error);
  const found = [end.sum_received, end.sum_received_bidir_reverse].filter((sum) => sum !== undefined);
  if (found.length === 0) throw new Error('it reported nothing that was received');
  return found;
}

/** Starts a stream to the second host that goes on while something else is measured. */
export async function backgroundStream(bed: Bed, seconds: number): Promise<{ gbps: number }> {
  const [sum] = await iperf(bed, 1, 'forward', seconds);
  return { gbps: (sum?.bits_per_second ?? 0) / 1e9 };
}

export async function measureTcp(
  bed: Bed,
  streams: number,
  direction: Direction,
  seconds: number,
): Promise<Reading> {
  const meter = new CpuMeter(bed.overlay.forwarders);
  const received = await iperf(bed, streams, direction, seconds);
  const cpu = meter.stop();
  const gigabytes = received.reduce((sum, { bytes }) => sum + bytes, 0) / 1e9;
  const gbps = received.reduce((sum, { bits_per_second: rate }) => sum + rate, 0) / 1e9;
  return { values: { gbps, ...costs(cpu, gigabytes, 'gigabytes') }, watched: [cpu] };
}

const WAYS: Readonly<Record<Direction, string>> = {
  forward: 'from the first host to the second',
  reverse: 'from the second host to the first',
  bidir: 'both ways at once (the sum of both)',
};

function trial(streams: number, direction: Direction): Trial {
  const name = `tcp${streams}${direction === 'forward' ? '' : `-${direction}`}`;
  return {
    ...only(name),
    summary: `TCP, ${streams === 1 ? 'one stream' : `${streams} streams`} ${WAYS[direction]}`,
    metrics: ['gbps', 'fwd_cpu_s_per_gb', 'machine_cpu_s_per_gb'],
    quick: name === 'tcp1',
    needs: ['iperf3'],
    run: (bed, seconds) => measureTcp(bed, streams, direction, seconds),
  };
}

export const TCP_TRIALS: readonly Trial[] = [1, 4].flatMap((streams) =>
  (['forward', 'reverse', 'bidir'] as const).map((direction) => trial(streams, direction)),
);
