/** Metrics of the device and of what moves its packets. */
import { TIERS, tierOf } from '../backend/tiers.js';
import type { BackendObservation } from '../backend/backend.js';
import { counters, histograms } from '../dataplane.js';
import type { CounterInfo, HistogramInfo, Stats } from '../dataplane.js';
import { histogramSamples, one, stateSet } from './family.js';
import type { Family, Sample } from './family.js';

const STANDINGS: readonly Stats['standing'][] = ['owner', 'parked', 'handed over', 'deposed'];

const PATHS = {
  encap: 'from the TUN device to the peers',
  decap: 'from the peers to the TUN device',
} as const;

export function backendFamilies({ device, mtu, repairs, failure, dataplane }: BackendObservation): Family[] {
  return [
    {
      name: 'flanneld_device_mtu_bytes',
      type: 'gauge',
      help: 'The largest packet of the overlay.',
      samples: [{ labels: { device }, value: mtu }],
    },
    {
      name: 'flanneld_device_repairs_total',
      type: 'counter',
      help: 'How often something about the device that somebody had changed was restored.',
      samples: [...repairs].map(([what, value]) => ({ labels: { what }, value })),
    },
    {
      name: 'flanneld_dataplane_running',
      type: 'gauge',
      help: 'Whether packets are moved.',
      samples: one(failure === null),
    },
    ...(dataplane === null ? [] : dataplaneFamilies(dataplane)),
  ];
}

function dataplaneFamilies(stats: Stats): Family[] {
  const { features, routes, restarts, standing, stoodBy } = stats;
  const tier = tierOf(features);
  return [
    { name: 'flanneld_routes', type: 'gauge', help: 'Routes of the forwarding table.', samples: one(routes) },
    {
      name: 'flanneld_dataplane_restarts_total',
      type: 'counter',
      help: 'How often threads were started again, after a failure or over a new device.',
      samples: one(restarts),
    },
    {
      name: 'flanneld_feature_enabled',
      type: 'gauge',
      help: 'Which features of the kernel are in use.',
      samples: stateSet('feature', TIERS.full, (name) => (features as readonly string[]).includes(name)),
    },
    {
      name: 'flanneld_tier_enabled',
      type: 'gauge',
      help: 'The highest tier all of whose features are in use.',
      samples: stateSet('tier', Object.keys(TIERS), (name) => name === tier),
    },
    {
      name: 'flanneld_standing',
      type: 'gauge',
      help: 'Which part this process has in a hand-over.',
      samples: stateSet('standing', STANDINGS, (name) => name === standing),
    },
    {
      name: 'flanneld_stood_by',
      type: 'gauge',
      help: 'Whether a process stands by that would forward in place of this one.',
      samples: one(stoodBy),
    },
    ...counterFamilies(counters, stats.counters),
    ...histogramFamilies(histograms, stats.histograms),
  ];
}

/** A family for each counter, but one for all drops of a direction, by reason. */
export function* counterFamilies(
  infos: readonly CounterInfo[],
  values: ArrayLike<number>,
): Generator<Family> {
  for (const [i, { name, role, help }] of infos.entries()) {
    if (role === 'drop') continue;
    yield { name: `flanneld_${name}_total`, type: 'counter', help, samples: one(values[i] ?? 0) };
  }
  for (const direction of ['encap', 'decap'] as const) {
    const samples: Sample[] = [];
    const sentences: string[] = [];
    for (const [i, info] of infos.entries()) {
      if (info.role !== 'drop' || info.direction !== direction) continue;
      const reason = info.name.slice(direction.length + 1);
      samples.push({ labels: { reason }, value: values[i] ?? 0 });
      sentences.push(`${reason}: ${info.help}`);
    }
    yield {
      name: `flanneld_${direction}_drops_total`,
      type: 'counter',
      help: `Packets dropped on the way ${PATHS[direction]}, by reason. ${sentences.join(' ')}`,
      samples,
    };
  }
}

function histogramFamilies(infos: readonly HistogramInfo[], values: readonly Float64Array[]): Family[] {
  return infos.map(({ name, help, bounds }, i) => {
    const counts = values[i] ?? new Float64Array(bounds.length + 2);
    return {
      name: `flanneld_${name}`,
      type: 'histogram',
      help,
      samples: histogramSamples(bounds, counts.subarray(0, -1), counts.at(-1) ?? 0),
    };
  });
}
