/** UDP between the hosts of a bed, made and counted by traffic.c. */
import { setTimeout as sleep } from 'node:timers/promises';
import { CpuMeter } from '../measure/cpu.js';
import type { CpuFigures } from '../measure/cpu.js';
import { RunningTool, compileTool } from '../tools.js';
import { firstHost, secondHost } from './trial.js';
import type { Bed } from './trial.js';

const PORT = '9001';
const ECHO_PORT = '9002';

/** What to send from the first host to all others. */
export interface Load {
  /** Lengths of IPv4 packets and how often each comes: `64`, or `64:7,576:4,1400:1`. */
  readonly sizes: string;
  /** Packets per second; 0 for as many as the sender can. */
  readonly rate: number;
  readonly seconds: number;
  /** Different destinations on each host; 1 is the host's own address. */
  readonly flows: number;
}

interface Sent {
  readonly packets: number;
  readonly refused: number;
  readonly first_ns: number;
  readonly last_ns: number;
}

interface Received {
  readonly packets: number;
  /** UDP payload. */
  readonly bytes: number;
  readonly duplicates: number;
  readonly first_ns: number;
  readonly last_ns: number;
}

export interface LoadFigures {
  readonly offeredPps: number;
  /** Packets per second from the first that arrived to the last. */
  readonly pps: number;
  readonly gbps: number;
  /** Share of the packets sent; 0 to 1. */
  readonly loss: number;
  readonly packets: number;
  readonly cpu: CpuFigures;
}

/** Sends, counts what arrives, and watches the processors from the first packet until all have come. */
export async function sendLoad(bed: Bed, load: Load): Promise<LoadFigures> {
  const program = await compileTool('traffic');
  const receivers: RunningTool[] = [];
  try {
    for (const host of bed.hosts.slice(1)) {
      const args = ['receive', '--bind', '0.0.0.0', '--port', PORT];
      receivers.push(await RunningTool.start(host, program, args, /^ready$/));
    }
    const meter = new CpuMeter(bed.overlay.forwarders);
    const { stdout } = await firstHost(bed).exec(program, 'send', ...sendArguments(bed, load));
    const received = await Promise.all(receivers.map((receiver) => receiver.finish<Received>()));
    return evaluate(JSON.parse(stdout) as Sent, received, meter.stop());
  } finally {
    await Promise.all(receivers.map((receiver) => receiver.kill()));
  }
}

function sendArguments({ overlay }: Bed, { sizes, rate, seconds, flows }: Load): string[] {
  const receivers = overlay.ends.slice(1);
  // Several flows go to neighbouring addresses in the host's subnet, all of which it takes for its own.
  const targets = receivers.map(({ address, subnet }) =>
    flows === 1 ? address : subnet.replace(/0\/\d+$/, '16'),
  );
  return [
    ...['--to', targets.join(','), '--flows', String(flows), '--port', PORT],
    ...['--sizes', sizes, '--rate', String(rate), '--seconds', String(seconds)],
  ];
}

function evaluate(sent: Sent, received: readonly Received[], cpu: CpuFigures): LoadFigures {
  const heard = received.filter(({ packets }) => packets > 0);
  const packets = heard.reduce((sum, part) => sum + part.packets, 0);
  const bytes = heard.reduce((sum, part) => sum + part.bytes, 0);
  if (packets < 2) throw new Error(`none of ${sent.packets} packets arrived`);
  const duplicates = heard.reduce((sum, part) => sum + part.duplicates, 0);
  if (duplicates > 0) throw new Error(`${duplicates} packets arrived more than once`);
  const first = Math.min(...heard.map(({ first_ns: time }) => time));
  const last = Math.max(...heard.map(({ last_ns: time }) => time));
  // A few packets may arrive within one reading of the clock.
  const seconds = Math.max(last - first, 1) / 1e9;
  const offered = sent.packets + sent.refused;
  return {
    offeredPps: (offered * 1e9) / (sent.last_ns - sent.first_ns),
    pps: packets / seconds,
    gbps: (bytes * 8) / 1e9 / seconds,
    loss: Math.max(0, 1 - packets / offered),
    packets,
    cpu,
  };
}

export interface RoundTrips {
  readonly sent: number;
  readonly received: number;
  readonly p50_ns: number;
  readonly p99_ns: number;
  readonly p999_ns: number;
}

const RTT_INTERVAL_US = 1000;

/** Round trips between the first two hosts, a thousand a second. @throws Error when none succeeds. */
export async function roundTrips(
  bed: Bed,
  seconds: number,
  intervalUs: number = RTT_INTERVAL_US,
): Promise<RoundTrips> {
  const program = await compileTool('traffic');
  const { host, address } = secondHost(bed);
  const echo = await RunningTool.start(
    host,
    program,
    ['echo', '--bind', address, '--port', ECHO_PORT],
    /^ready$/,
  );
  try {
    const how = ['--interval', String(intervalUs), '--seconds', String(seconds)];
    const { stdout } = await firstHost(bed).exec(
      program,
      'rtt',
      '--to',
      address,
      '--port',
      ECHO_PORT,
      ...how,
    );
    const answer = JSON.parse(stdout) as RoundTrips;
    if (answer.received === 0) throw new Error(`none of ${answer.sent} packets came back`);
    return answer;
  } finally {
    await echo.kill();
  }
}

/** Waits until packets get through both ways. @throws Error when they do not in time. */
export async function waitUntilItCarries(bed: Bed, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const failure = bed.overlay.failure();
    if (failure !== null) throw new Error(failure);
    try {
      await roundTrips(bed, 0.02, 10_000);
      return;
    } catch (error) {
      if (performance.now() > deadline) throw new Error('it carries no packets', { cause: error });
      await sleep(100);
    }
  }
}

/** Keeps the processors awake while `action` runs; tells it the spinner's process id. */
export async function withoutIdleStates<T>(bed: Bed, action: (spinner: number) => Promise<T>): Promise<T> {
  const program = await compileTool('traffic');
  const spinner = await RunningTool.start(firstHost(bed), program, ['spin'], /^ready$/);
  try {
    return await action(spinner.pid);
  } finally {
    await spinner.kill();
  }
}
