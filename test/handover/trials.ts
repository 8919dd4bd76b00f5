/** What may happen to a flanneld, over and over under traffic, and what the traffic may notice of it. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Daemon } from '../../bench/daemon.js';
import type { RunningTool } from '../../bench/tools.js';
import { TestNetwork } from '../lib/network.js';
import { Probe } from '../lib/probe.js';
import type { ProbeFigures } from '../lib/probe.js';
import { startStandby } from '../lib/standby.js';
import { handOver as takeOver, succeed } from '../lib/succession.js';
import { PacedStream } from './paced-stream.js';

const RATE = 10_000; // packets a second, each way
const STANDS_BY = 'stands by';
const BATCH = 64; // packets that are read before they are sent, at most (kBatchSize)

export interface Outcome {
  readonly forth: ProbeFigures;
  readonly back: ProbeFigures;
  /** Bytes of the TCP stream, each of which arrived. */
  readonly streamed: number;
  /** What should not have happened. */
  readonly problems: readonly string[];
}

export type Trial = (times: number) => Promise<Outcome>;

/** A running flanneld hands over to the next. */
export const handOver: Trial = (times) =>
  underTraffic(times, NOTHING_LOST, async (network, daemon) => {
    const next = await takeOver(daemon, () => network.start(1));
    if (daemon.exitCode !== 0)
      throw new Error(`the predecessor ended with ${daemon.exitCode}:\n${daemon.log}`);
    return next;
  });

/** A flanneld ends in peace and is started again, while another process stands by. */
export const restartWithStandby: Trial = (times) =>
  withStandby(times, NOTHING_LOST, async (network, daemon) => {
    await daemon.stop();
    return startedBeforeStandby(network);
  });

/** A flanneld is killed and started again, while another process stands by. */
export const killWithStandby: Trial = (times) =>
  withStandby(times, onlyBatchesLost(times), async (network, daemon) => {
    await daemon.stop('SIGKILL');
    return startedBeforeStandby(network);
  });

/** A flanneld is killed and started again. */
export const killWithoutStandby: Trial = (times) =>
  underTraffic(times, SOME_LOST, async (network, daemon) => {
    await daemon.stop('SIGKILL');
    return startedAgain(network);
  });

/** Whether what a direction lost is a problem. */
type Tolerance = (figures: ProbeFigures) => string | null;

const NOTHING_LOST: Tolerance = ({ lost, duplicated, reordered }) =>
  lost + duplicated + reordered === 0 ? null : `lost ${lost}, doubled ${duplicated}, reordered ${reordered}`;

/** What a process has read and not sent yet dies with it, each time it is killed. */
function onlyBatchesLost(times: number): Tolerance {
  return (figures) => (figures.lost <= times * BATCH ? SOME_LOST(figures) : `lost ${figures.lost}`);
}

const SOME_LOST: Tolerance = ({ duplicated, reordered }) =>
  duplicated + reordered === 0 ? null : `doubled ${duplicated}, reordered ${reordered}`;

async function startedAgain(network: TestNetwork): Promise<Daemon> {
  const next = network.start(1);
  await next.ready(1);
  return next;
}

function startedBeforeStandby(network: TestNetwork): Promise<Daemon> {
  return succeed(
    () => network.start(1),
    ({ log }) => log.includes(STANDS_BY),
  );
}

type Step = (network: TestNetwork, daemon: Daemon) => Promise<Daemon>;

function withStandby(times: number, tolerance: Tolerance, step: Step): Promise<Outcome> {
  return underTraffic(
    times,
    tolerance,
    async (network, daemon) => {
      await daemon.logged(new RegExp(STANDS_BY));
      return step(network, daemon);
    },
    (network) => startStandby(network.host(1), `${network.folder}/host1.sock`),
  );
}

/** Repeats `step` with the flanneld of host 1, with packets and a stream between the hosts. */
async function underTraffic(
  times: number,
  tolerance: Tolerance,
  step: Step,
  beside?: (network: TestNetwork) => Promise<RunningTool>,
): Promise<Outcome> {
  const network = await TestNetwork.create(2);
  let companion: RunningTool | undefined;
  let probe: Probe | undefined;
  let stream: PacedStream | undefined;
  try {
    const [first, other] = await network.startAll();
    if (first === undefined || other === undefined) throw new Error('two daemons were asked for');
    companion = await beside?.(network);
    const ends = [first, other].map(({ host, overlayAddress: address }) => ({ host, address }));
    const [a, b] = ends;
    if (a === undefined || b === undefined) throw new Error('two ends were asked for');
    probe = await Probe.start(a, b, RATE);
    stream = await PacedStream.start(a, b);
    let daemon = first;
    for (let i = 0; i < times; i++) {
      daemon = await step(network, daemon);
      await delay(200);
    }
    const streamed = await stream.finish();
    const [forth, back] = await probe.finish();
    const problems = [forth, back].flatMap((figures, i) => {
      const problem = tolerance(figures);
      return problem === null ? [] : [`${i === 0 ? '→' : '←'} ${problem}`];
    });
    return { forth, back, streamed, problems };
  } finally {
    await stream?.kill();
    await probe?.kill();
    await companion?.kill();
    await network.close();
  }
}
