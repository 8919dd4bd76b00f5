/** A seed's faults on a cluster whose nodes come and go: afterwards each table must be what the nodes say. */
import assert from 'node:assert/strict';
import type { Daemon } from '../../bench/daemon.js';
import { formatTable } from '../../bench/table.js';
import type { Fault } from '../chaos/fault.js';
import { Churn } from '../lib/churn.js';
import { Dice } from '../lib/dice.js';
import { eventually } from '../lib/eventually.js';
import { Probe } from '../lib/probe.js';
import { Cluster, HEALED_MS, NODES, PREFIX } from './cluster.js';
import { KUBE_FAULTS, SPARE } from './faults.js';
import type { KubeWorld } from './faults.js';

const HOSTS = 3;
const PROBE_RATE = 500;
/** Nodes without a host, `peer0` and so on. */
const PEERS = 60;

/** A fault that has healed. */
interface Episode {
  readonly name: string;
  readonly healedMs: number;
}

/** Runs the first `faults` faults of a seed. @throws AssertionError with the logs for one that does not heal. */
export async function runChaos(seed: string, faults: number, print: (line: string) => void): Promise<void> {
  print(`seed ${seed}`);
  const cluster = await Cluster.create(HOSTS);
  const churn = new Churn(nodeChanges(cluster));
  let probe: Probe | null = null;
  try {
    // What each attempt to reach the API server has failed for.
    const daemons = await cluster.startAll('-v=2');
    const world = worldOf(cluster, daemons);
    const [a, b] = daemons.map((daemon) => ({ host: daemon.host, address: daemon.overlayAddress }));
    assert.ok(a && b);
    probe = await Probe.start(a, b, PROBE_RATE);
    const episodes: Episode[] = [];
    for (const [i, fault] of faultsOf(seed, faults).entries()) {
      const dice = new Dice(`${seed} fault ${i + 1}`);
      const say = (text: string) => {
        print(`${new Date().toISOString().slice(11, 23)} ${i + 1} ${fault.name}: ${text}`);
      };
      const said = daemons.map(({ log }) => log.length);
      try {
        churn.start(dice.fork('churn'));
        const settled = () => allIsWell(cluster, daemons);
        await fault.run({ world, dice, say, settled });
        await churn.end();
        const over = performance.now();
        await settled();
        episodes.push({ name: fault.name, healedMs: performance.now() - over });
        print(`             healed in ${seconds(episodes.at(-1)?.healedMs ?? 0)}`);
        await nothingLost(probe);
      } catch (error) {
        for (const [n, { log }] of daemons.entries()) print(`--- host ${n + 1}:\n${log.slice(said[n])}`);
        print(`again: npm run test:kube -- --seed ${seed} --faults ${i + 1}`);
        throw error;
      }
    }
    const figures = await probe.finish();
    print(summary(episodes, churn.changes));
    for (const { sent, lost } of figures) print(`probe: ${sent} packets sent, ${lost} lost`);
  } finally {
    await churn.end();
    await probe?.kill();
    await cluster.close();
  }
}

/** Each kind once before any comes again. */
function faultsOf(seed: string, count: number): Fault<KubeWorld>[] {
  const faults: Fault<KubeWorld>[] = [];
  for (let round = 0; faults.length < count; round++) {
    faults.push(...new Dice(`${seed} round ${round}`).shuffled(KUBE_FAULTS));
  }
  return faults.slice(0, count);
}

function worldOf(cluster: Cluster, daemons: Daemon[]): KubeWorld {
  return {
    cluster,
    proxies: cluster.proxies,
    daemons,
    async restartSpare() {
      assert.equal(await daemons[SPARE - 1]?.stop(), 0);
      daemons[SPARE - 1] = await cluster.start(SPARE, '-v=2');
    },
  };
}

/** @throws Error with the difference when it takes longer than 10 s. */
async function allIsWell(cluster: Cluster, daemons: readonly Daemon[]): Promise<void> {
  const end = performance.now() + HEALED_MS;
  await cluster.settled(daemons, HEALED_MS);
  const left = () => Math.max(1, end - performance.now());
  for (const { host, exitCode } of daemons) {
    assert.equal(exitCode, null, `the daemon on ${host.name} has ended`);
    await eventually(async () => {
      const annotations = await cluster.annotations(host.name);
      assert.equal(annotations[`${PREFIX}public-ip`], host.address);
      assert.equal((await cluster.networkUnavailable(host.name))?.status, 'False', host.name);
    }, left());
  }
  // The own annotations were mended after the tables were looked at, perhaps.
  await cluster.settled(daemons, left());
}

async function nothingLost(probe: Probe): Promise<void> {
  const progress = await probe.progress();
  assert.deepEqual(
    progress.map(({ missing }) => missing),
    [0, 0],
    'packets are lost between the hosts that nothing has happened to',
  );
}

function summary(episodes: readonly Episode[], changes: number): string {
  const rows = KUBE_FAULTS.map(({ name }) => episodes.filter((episode) => episode.name === name))
    .filter((of) => of.length > 0)
    .map((of) => [
      of[0]?.name ?? '',
      String(of.length),
      seconds(Math.max(...of.map(({ healedMs }) => healedMs))),
    ]);
  const slowest = Math.max(0, ...episodes.map(({ healedMs }) => healedMs));
  return [
    '',
    formatTable(['fault', 'times', 'slowest healing'], rows),
    `${episodes.length} faults, the slowest healed in ${seconds(slowest)}; ${changes} changes of other nodes meanwhile`,
  ].join('\n');
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

/** Other nodes that come, change and go: each call does one of that. */
function nodeChanges(cluster: Cluster): (dice: Dice) => Promise<void> {
  const present = new Set<number>();
  return async (dice) => {
    const number = dice.between(0, PEERS - 1);
    const name = `peer${number}`;
    const publicIp = `192.168.77.${dice.between(100, 200)}`;
    const cidr = `10.244.${100 + number}.0/24`;
    if (!present.has(number)) {
      present.add(number);
      await cluster.addPeer(name, cidr, publicIp);
    } else if (dice.chance(0.6)) {
      await cluster.annotate(name, { [`${PREFIX}public-ip`]: publicIp });
    } else {
      present.delete(number);
      await cluster.server.delete(`${NODES}/${name}`);
    }
  };
}
