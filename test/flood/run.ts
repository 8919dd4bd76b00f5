/**
 * `npm run test:flood`: malformed packets of every kind against a live daemon, as many as asked for, with good traffic
 * beside them. See ../README.md.
 */
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { inLab, runInLab } from '../../bench/lab.js';
import { formatTable } from '../../bench/table.js';
import { endUnharmed, flood, OPEN_TO_ALL } from '../lib/hostile.js';
import { TestNetwork } from '../lib/network.js';

const USAGE = 'Usage: npm run test:flood -- [--packets N] [--rate N] [--tier NAME] [--seed N]\n';

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      packets: { type: 'string', default: '1000000' },
      rate: { type: 'string', default: '50000' },
      tier: { type: 'string', default: 'full' },
      seed: { type: 'string', default: '1' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  const [packets, rate, seed] = [values.packets, values.rate, values.seed].map(Number);
  if (!(Number(packets) >= 1 && Number(rate) >= 1 && Number(seed) >= 0)) throw new Error(USAGE.trim());
  const network = await TestNetwork.create(3, { config: OPEN_TO_ALL });
  try {
    const [target, neighbour] = [1, 2].map((host) => network.start(host, `--dataplane-tier=${values.tier}`));
    if (!target || !neighbour) throw new Error('no daemons');
    await Promise.all([target.ready(1), neighbour.ready(1)]);
    const started = Date.now();
    const figures = await flood(network.host(3), target, neighbour, {
      packets: packets ?? 0,
      rate: rate ?? 0,
      seed: seed ?? 0,
    });
    const seconds = (Date.now() - started) / 1000;
    const { outside, inside, good, overflowed, deviceOverflowed } = figures;
    const rows = [
      ['from outside', outside.sent, outside.refused, overflowed],
      ['into the device', inside.sent, inside.refused, deviceOverflowed],
      ['good, to the target', good[0].sent, good[0].refused, good[0].lost],
      ['good, from the target', good[1].sent, good[1].refused, good[1].lost],
    ];
    console.log(
      formatTable(
        ['packets', 'sent', 'not taken', 'lost'],
        rows.map((row) => row.map(String)),
      ),
    );
    await endUnharmed(target, neighbour, figures, { open: true });
    console.log(`${Object.keys(outside.kinds).length} kinds in ${seconds.toFixed(1)} s; all accounted for`);
    const drops = [...target.counters()].filter(([, count]) => count > 0);
    console.log(drops.map(([name, count]) => `${name}=${count}`).join(' '));
  } finally {
    await network.close();
  }
}

if (inLab()) {
  await main();
} else {
  process.exitCode = await runInLab(process.execPath, [
    fileURLToPath(import.meta.url),
    ...process.argv.slice(2),
  ]);
}
