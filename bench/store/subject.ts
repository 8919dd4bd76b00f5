/**
 * What is measured: a daemon's way from the store to its forwarding table, in a process of its own. It is the
 * daemon's own code throughout; only the watch and the table are wrapped, to note the times.
 *
 * `node subject.js ENDPOINT OWN` with an IPC channel; OWN is the number of the own lease.
 */
import { createUdpBackend } from '../../src/backend/udp.js';
import { parseNetworkConfig } from '../../src/config.js';
import { parseFlags } from '../../src/flags.js';
import { followLeases } from '../../src/lease/follow.js';
import type { PeerTable } from '../../src/lease/follow.js';
import { LeaseKeeper } from '../../src/lease/keeper.js';
import { EtcdRegistry } from '../../src/subnet/etcd/registry.js';
import { LocalManager } from '../../src/subnet/local-manager.js';
import type { LeaseEvent } from '../../src/subnet/manager.js';
import { CONFIG, nthLease, PREFIX } from './cluster.js';
import { now } from './protocol.js';
import type { EventTimes, SubjectReport } from './protocol.js';

async function main(endpoint: string, own: number): Promise<void> {
  const none = { caFile: '', certFile: '', keyFile: '', username: '', password: '' };
  const manager = new LocalManager(
    new EtcdRegistry({ endpoints: [endpoint], prefix: PREFIX, ...none }),
    'Etcd',
    { v4: null, v6: null },
  );
  const stop = new AbortController();
  const { attrs } = nthLease(own);
  const config = parseNetworkConfig(CONFIG);
  const external = {
    name: 'lo',
    linkIndex: 1,
    mtu: 1500,
    address: 0x7f00_0001,
    publicIp: attrs.publicIp,
    addressV6: null,
    publicIpV6: null,
    chosenBy: null,
  };
  const command = parseFlags([], {}, 'flanneld');
  if (command.kind !== 'run') throw new Error('no flags are no command');
  const backend = createUdpBackend(config, external, command.options);

  const asked = now();
  const lease = await manager.acquireLease(attrs, stop.signal);
  const acquireMs = now() - asked;
  const network = backend.open(lease);

  let waiting: { publicIp: number; arrived: number }[] = [];
  let times: EventTimes[] = [];
  let leases = 0;
  let synced = false;
  let tables = 0;
  let tableMs = 0;
  const started = now();
  async function* watch(signal: AbortSignal): AsyncGenerator<readonly LeaseEvent[]> {
    for await (const events of manager.watchLeases(signal)) {
      const arrived = now();
      for (const event of events) {
        if (event.type === 'snapshot') leases = event.leases.length;
        else if (event.type === 'put') waiting.push({ publicIp: event.lease.attrs.publicIp, arrived });
      }
      yield events;
    }
  }
  const timed = <T>(change: () => T): T => {
    const begun = now();
    const result = change();
    const inTable = now();
    tableMs += inTable - begun;
    for (const event of waiting) times.push({ ...event, inTable });
    waiting = [];
    tables++;
    return result;
  };
  const table: PeerTable = {
    setPeers: (peers) => {
      timed(() => {
        network.setPeers(peers);
      });
      if (!synced) {
        report({ kind: 'synced', leases, peers: peers.length, ms: now() - started, acquireMs });
      }
      synced = true;
    },
    changePeers: (put, removed) => synced && timed(() => network.changePeers(put, removed)),
  };
  process.on('message', (message) => {
    if (message === 'events') {
      report({ kind: 'events', times, tables, tableMs });
      [times, tables, tableMs] = [[], 0, 0];
    } else stop.abort();
  });
  const keeper = new LeaseKeeper(manager, lease, 3_600_000);
  try {
    await Promise.all([
      followLeases({ watchLeases: watch }, lease, table, keeper, stop.signal),
      keeper.run(stop.signal),
    ]);
  } finally {
    network.close();
    manager.close();
    process.disconnect();
  }
}

function report(message: SubjectReport): void {
  process.send?.(message);
}

const [, , endpoint, own] = process.argv;
if (process.send !== undefined && endpoint !== undefined) await main(endpoint, Number(own));
