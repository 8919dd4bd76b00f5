/** What the store holds changes behind the daemons' backs. */
import type { Dice } from '../../lib/dice.js';
import { foreignValue } from '../churn.js';
import { duration, last } from '../fault.js';
import type { Act, Fault } from '../fault.js';
import { SUBNETS, World } from '../world.js';

/** Leases of others: one added, one changed, one deleted, and one deleted and added again. */
async function meanwhile(world: World, dice: Dice): Promise<void> {
  const [added = 0, changed = 0, deleted = 0, renewed = 0] = dice.shuffled([...Array(80).keys()]);
  const { store } = world;
  await store.put(World.foreignKey(added), foreignValue(dice));
  await store.put(World.foreignKey(changed), foreignValue(dice));
  await store.put(World.foreignKey(changed), foreignValue(dice));
  await store.delete(World.foreignKey(deleted));
  await store.delete(World.foreignKey(renewed));
  await store.put(World.foreignKey(renewed), foreignValue(dice));
}

/** Takes the daemons' eyes from the store while `action` runs: by a cut or by connections that stay and are dead. */
async function unseen({ world, dice, say }: Act, what: string, action: () => Promise<void>): Promise<void> {
  const ms = duration(dice);
  const cut = dice.chance(0.7);
  say(`${what} in the middle of ${ms} ms with ${cut ? 'no connections' : 'dead connections'} to etcd`);
  for (const proxy of world.proxies) {
    if (cut) await proxy.cut();
    else proxy.swallow();
  }
  await last(ms / 2);
  await action();
  await last(ms / 2);
  for (const proxy of world.proxies) await proxy.open();
}

/** Mostly the host without probe, so that a loss on the others' account stands out. */
function someHost(dice: Dice): number {
  return dice.chance(0.5) ? 3 : dice.between(1, 2);
}

async function revokeLeaseOf(key: string, { store }: World): Promise<void> {
  const entry = (await store.list(key)).find((candidate) => candidate.key === key);
  if (entry === undefined || entry.lease === '0') throw new Error(`${key} has no lease to revoke`);
  await store.revoke(entry.lease);
}

export const LEASE_FAULTS: readonly Fault[] = [
  {
    name: 'changed-unseen',
    run: (act) =>
      unseen(act, 'leases of others are added, changed and deleted', () => meanwhile(act.world, act.dice)),
  },
  {
    name: 'compacted',
    run: (act) =>
      unseen(act, 'leases of others change and the history is compacted', async () => {
        await meanwhile(act.world, act.dice);
        await act.world.store.compact();
      }),
  },
  {
    name: 'own-lease-revoked',
    takesLeases: true,
    async run({ world, dice, say }) {
      const host = someHost(dice);
      say(`the etcd lease of host ${host} is revoked`);
      await revokeLeaseOf(world.ownKey(host), world);
    },
  },
  {
    name: 'own-key-deleted',
    takesLeases: true,
    async run({ world, dice, say }) {
      const host = someHost(dice);
      say(`the entry of host ${host} is deleted`);
      await world.store.delete(world.ownKey(host));
    },
  },
  {
    name: 'own-key-deleted-unseen',
    takesLeases: true,
    async run(act) {
      const host = someHost(act.dice);
      const key = act.world.ownKey(host);
      await unseen(act, `the entry of host ${host} is deleted`, () => act.world.store.delete(key));
    },
  },
  {
    name: 'all-keys-deleted',
    takesLeases: true,
    async run({ world, say }) {
      say('all entries are deleted');
      await world.store.deletePrefix(SUBNETS);
    },
  },
  {
    name: 'wiped',
    takesLeases: true,
    async run({ world, dice, say }) {
      const ms = duration(dice);
      say(`all members lose their data, and the cluster is begun anew after ${ms} ms`);
      await Promise.all(world.members.map((member) => member.kill()));
      await Promise.all(world.members.map((member) => member.wipe()));
      await last(ms);
      for (const member of world.members) member.launch();
      await Promise.all(world.members.map((member) => member.healthy()));
      await world.furnish();
    },
  },
];
