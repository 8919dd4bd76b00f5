/** Round-trip times: alone, and beside a TCP stream that fills the path. */
import { setTimeout as sleep } from 'node:timers/promises';
import { CpuMeter } from '../measure/cpu.js';
import { backgroundStream } from './tcp.js';
import { roundTrips, withoutIdleStates } from './traffic.js';
import type { RoundTrips } from './traffic.js';
import { only } from './trial.js';
import type { Bed, Reading, Trial } from './trial.js';

const WARM_UP_MS = 400;

function valuesOf({ sent, received, p50_ns, p99_ns, p999_ns }: RoundTrips): Reading['values'] {
  return {
    rtt_us: p50_ns / 1e3,
    rtt_p99_us: p99_ns / 1e3,
    rtt_p999_us: p999_ns / 1e3,
    loss: 1 - received / sent,
  };
}

/** A processor that has to wake up first adds more to an idle round trip than most forwarders do. */
async function alone(bed: Bed, seconds: number): Promise<Reading> {
  return withoutIdleStates(bed, async (spinner) => {
    const meter = new CpuMeter(bed.overlay.forwarders, [spinner]);
    const trips = await roundTrips(bed, seconds);
    return { values: valuesOf(trips), watched: [meter.stop()] };
  });
}

async function besideStream(bed: Bed, seconds: number): Promise<Reading> {
  return withoutIdleStates(bed, async (spinner) => {
    const meter = new CpuMeter(bed.overlay.forwarders, [spinner]);
    const whole = Math.ceil(seconds + WARM_UP_MS / 1000);
    const stream = backgroundStream(bed, whole);
    // Its failure is told below; until then it must not count as unhandled.
    stream.catch(() => undefined);
    await sleep(WARM_UP_MS);
    const trips = await roundTrips(bed, whole - (WARM_UP_MS + 100) / 1000);
    const { gbps } = await stream;
    return { values: { ...valuesOf(trips), gbps }, watched: [meter.stop()] };
  });
}

export const RTT_TRIALS: readonly Trial[] = [
  {
    ...only('rtt'),
    summary: 'round trips of UDP packets of 64 bytes, a thousand a second, and nothing beside them',
    metrics: ['rtt_us', 'rtt_p99_us', 'rtt_p999_us', 'loss'],
    quick: true,
    needs: [],
    run: alone,
  },
  {
    ...only('rtt-tcp'),
    summary: 'the same round trips beside one TCP stream in the direction of the requests',
    metrics: ['rtt_us', 'rtt_p99_us', 'rtt_p999_us', 'loss', 'gbps'],
    quick: true,
    needs: ['iperf3'],
    run: besideStream,
  },
];
