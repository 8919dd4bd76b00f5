/** Other hosts that come, change and go in etcd. */
import type { Dice } from '../lib/dice.js';
import type { EtcdGateway } from '../lib/etcd-gateway.js';
import { World } from './world.js';

const LEASE_SECONDS = 300;

export async function changeForeignLease(store: EtcdGateway, dice: Dice): Promise<void> {
  const key = World.foreignKey(dice.between(0, 1000));
  const what = dice.next();
  if (what < 0.35) {
    await store.delete(key);
  } else if (what < 0.9) {
    await store.put(key, foreignValue(dice));
  } else {
    const lease = await store.grant(LEASE_SECONDS);
    await store.put(key, foreignValue(dice), lease);
    if (what > 0.95) await store.revoke(lease);
  }
}

/** What a host that does not exist announces. */
export function foreignValue(dice: Dice): string {
  return `{"PublicIP":"192.168.77.${dice.between(100, 200)}","PublicIPv6":null}`;
}
