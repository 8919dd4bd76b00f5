/** UDP: as much as goes, a fixed rate, and the highest rates with little loss. */
import { searchRate } from '../measure/search.js';
import type { Probe } from '../measure/search.js';
import { sendLoad } from './traffic.js';
import type { LoadFigures } from './traffic.js';
import { costs, only } from './trial.js';
import type { Bed, Reading, Trial } from './trial.js';

/** The simple Internet mix by packets; 1400 in place of 1500, so that every contender's MTU holds it. */
export const IMIX = '64:7,576:4,1400:1';

const FIXED_RATE = 50_000;
const TOLERANCE = 0.005;

export function readingOf(figures: LoadFigures): Reading {
  const { pps, gbps, loss, offeredPps, packets, cpu } = figures;
  return {
    values: { pps, gbps, loss, offered_pps: offeredPps, ...costs(cpu, packets, 'packets') },
    watched: [cpu],
  };
}

/** Sends as fast as the sender can. */
export async function overload(bed: Bed, sizes: string, seconds: number, flows = 1): Promise<Reading> {
  return readingOf(await sendLoad(bed, { sizes, rate: 0, seconds, flows }));
}

export const OVERLOADS = [
  { name: 'udp64', what: 'UDP packets of 64 bytes', sizes: '64' },
  { name: 'udp1400', what: 'UDP packets of 1400 bytes', sizes: '1400' },
  { name: 'imix', what: 'UDP packets of 64, 576 and 1400 bytes, 7 : 4 : 1', sizes: IMIX },
] as const;

const overloads: readonly Trial[] = OVERLOADS.map(({ name, what, sizes }) => ({
  ...only(name),
  summary: `${what}, one flow, as fast as the sender can`,
  metrics: [
    name === 'udp1400' ? 'gbps' : 'pps',
    ...(name === 'udp1400' ? (['pps'] as const) : []),
    'loss',
    'fwd_us_per_packet',
    'machine_us_per_packet',
  ],
  quick: true,
  needs: [],
  run: (bed, seconds) => overload(bed, sizes, seconds),
}));

const fixedRate: Trial = {
  ...only('rate50k'),
  summary: 'UDP packets of 64 bytes, 50,000 a second',
  metrics: ['fwd_us_per_packet', 'machine_us_per_packet', 'pps', 'loss'],
  quick: false,
  needs: [],
  run: async (bed, seconds) =>
    readingOf(await sendLoad(bed, { sizes: '64', rate: FIXED_RATE, seconds, flows: 1 })),
};

/** Both searches share their steps: what was lost at a rate is known, whoever asks. */
async function search(bed: Bed, seconds: number): Promise<Reading> {
  const watched: Reading['watched'][number][] = [];
  const step = async (rate: number): Promise<Probe> => {
    const { offeredPps, loss, cpu } = await sendLoad(bed, { sizes: '64', rate, seconds, flows: 1 });
    watched.push(cpu);
    return { rate, offered: offeredPps, loss };
  };
  // What overload delivers bounds the rate without loss only on a path that does not suffer from overload.
  const flatOut = await sendLoad(bed, { sizes: '64', rate: 0, seconds: seconds / 2, flows: 1 });
  watched.push(flatOut.cpu);
  const ceiling = Math.min(flatOut.offeredPps, flatOut.pps * 2);
  const options = { ceiling, resolution: 0.05, probe: step };
  const some = await searchRate({ ...options, tolerance: TOLERANCE, known: [] });
  const none = await searchRate({ ...options, tolerance: 0, known: some.probes });
  return { values: { ndr_pps: none.rate, pdr_pps: some.rate }, watched };
}

const highestRates: Trial = {
  ...only('ndr'),
  summary:
    'the highest rate of UDP packets of 64 bytes without loss, and with at most 0.5 % (RFC 2544, 26.1)',
  metrics: ['ndr_pps', 'pdr_pps'],
  quick: false,
  needs: [],
  // Each of some 14 steps is as long as half a sample of another trial.
  run: (bed, seconds) => search(bed, seconds / 2),
};

export const UDP_TRIALS: readonly Trial[] = [...overloads, fixedRate, highestRates];
