/** What goes wrong in a cluster besides the ways to its API server. */
import assert from 'node:assert/strict';
import { duration, last } from '../chaos/fault.js';
import type { Fault } from '../chaos/fault.js';
import { WAY_FAULTS } from '../chaos/faults/ways.js';
import type { Daemon } from '../../bench/daemon.js';
import { NODES, PREFIX } from './cluster.js';
import type { Cluster } from './cluster.js';

/** The host whose node and daemon are meddled with: the probe does not pass it. */
export const SPARE = 3;
const SPARE_NAME = `host${SPARE}`;
/** For so long a token that was revoked may still be believed. */
const TOKEN_MEMORY_MS = 10_500;

/** What the faults happen to. */
export interface KubeWorld {
  readonly cluster: Cluster;
  readonly proxies: Cluster['proxies'];
  readonly daemons: readonly Daemon[];
  restartSpare(): Promise<void>;
}

const SERVER_FAULTS: readonly Fault<KubeWorld>[] = [
  {
    name: 'server-killed',
    async run({ world: { cluster }, dice, say }) {
      const ms = duration(dice);
      say(`kill -9 to the API server, for ${ms} ms`);
      await cluster.server.kill();
      await last(ms);
      await cluster.server.restart();
    },
  },
  {
    name: 'server-restarted',
    async run({ world: { cluster }, say }) {
      say('the API server is told to end, and started again');
      await cluster.server.kill('SIGTERM');
      await cluster.server.restart();
    },
  },
  {
    name: 'etcd-killed',
    async run({ world: { cluster }, dice, say }) {
      const ms = duration(dice);
      say(`kill -9 to the etcd behind the API server, for ${ms} ms`);
      await cluster.server.etcd.kill();
      await last(ms);
      await cluster.server.etcd.restart();
    },
  },
  {
    name: 'etcd-frozen',
    async run({ world: { cluster }, dice, say }) {
      const ms = duration(dice);
      say(`the etcd behind the API server is frozen for ${ms} ms`);
      cluster.server.etcd.pause();
      await last(ms);
      cluster.server.etcd.resume();
    },
  },
  {
    name: 'compacted',
    async run({ world: { cluster, proxies }, dice, say }) {
      const cut = dice.some(proxies);
      const ms = duration(dice);
      say(`what happens in ${ms} ms is missed by ${cut.length} hosts, and compacted away`);
      for (const proxy of cut) await proxy.cut();
      await last(ms);
      await cluster.server.kill();
      await cluster.server.etcd.compact();
      await cluster.server.restart();
      for (const proxy of cut) await proxy.open();
    },
  },
];

const NODE_FAULTS: readonly Fault<KubeWorld>[] = [
  {
    name: 'annotations-removed',
    async run({ world: { cluster }, dice, say }) {
      const names = dice.some(['kube-subnet-manager', 'backend-type', 'backend-data', 'public-ip']);
      say(`somebody removes ${names.join(', ')} from ${SPARE_NAME}`);
      await cluster.annotate(SPARE_NAME, Object.fromEntries(names.map((name) => [PREFIX + name, null])));
    },
  },
  {
    name: 'annotations-changed',
    async run({ world: { cluster }, dice, say }) {
      const ip = `192.0.2.${dice.between(1, 254)}`;
      say(`somebody writes ${ip} into the annotation of ${SPARE_NAME}`);
      await cluster.annotate(SPARE_NAME, { [`${PREFIX}public-ip`]: ip });
    },
  },
  {
    name: 'node-deleted',
    async run({ world: { cluster }, dice, say }) {
      const ms = duration(dice);
      say(`the node ${SPARE_NAME} is away for ${ms} ms`);
      await cluster.server.delete(`${NODES}/${SPARE_NAME}`);
      await last(ms);
      await cluster.addNode(SPARE_NAME, [`10.244.${SPARE}.0/24`]);
    },
  },
  {
    name: 'condition-set',
    async run({ world: { cluster }, say }) {
      say(`the network of ${SPARE_NAME} is said to be unavailable`);
      await cluster.setNetworkUnavailable(SPARE_NAME, 'True');
    },
  },
  {
    name: 'daemon-restarted',
    async run({ world, say }) {
      say(`the daemon on ${SPARE_NAME} is ended and started`);
      await world.restartSpare();
    },
  },
];

const ACCESS_FAULTS: readonly Fault<KubeWorld>[] = [
  {
    name: 'permissions-away',
    async run({ world: { cluster, proxies }, dice, say }) {
      const ms = duration(dice);
      say(`flannel may do nothing for ${ms} ms, and connections are reset`);
      await cluster.permit(false);
      for (const proxy of proxies) proxy.reset();
      await last(ms);
      await cluster.permit(true);
    },
  },
  {
    name: 'token-revoked',
    async run({ world: { cluster, proxies, daemons }, dice, say }) {
      const ms = duration(dice);
      say(`the token is revoked; there is a new one ${ms} ms after connections were reset`);
      const said = daemons.map(({ log }) => log.length);
      await cluster.revokeToken();
      await last(TOKEN_MEMORY_MS);
      for (const proxy of proxies) proxy.reset();
      await last(ms);
      for (const [i, { log }] of daemons.entries()) assert.match(log.slice(said[i]), /lost the Kubernetes/);
      await cluster.newToken();
    },
  },
];

/** All there are. */
export const KUBE_FAULTS: readonly Fault<KubeWorld>[] = [
  ...WAY_FAULTS,
  ...SERVER_FAULTS,
  ...NODE_FAULTS,
  ...ACCESS_FAULTS,
];
