/** Who may do what in the store changes. */
import { duration, last, named } from '../fault.js';
import type { Fault } from '../fault.js';
import type { World } from '../world.js';
import { ROLE, USER } from '../world.js';

/** Connections made before authentication was switched on keep their watches; the next ones have to log in. */
function reconnect(world: World): void {
  for (const proxy of world.proxies) proxy.reset();
}

/** Runs with authentication on. */
async function authenticated(world: World, action: () => Promise<void>): Promise<void> {
  await world.store.call('auth/enable', {});
  try {
    reconnect(world);
    await action();
  } finally {
    await world.store.call('auth/disable', {});
  }
}

export const ACCESS_FAULTS: readonly Fault[] = [
  {
    name: 'login-demanded',
    async run({ world, dice, say }) {
      const ms = duration(dice);
      say(`authentication is switched on for ${ms} ms`);
      await authenticated(world, () => last(ms));
    },
  },
  {
    name: 'tokens-lost',
    async run({ world, dice, say, settled }) {
      const ms = duration(dice);
      const members = dice.some(world.members).slice(0, 2);
      say(
        `with authentication on, ${named('member', members, world.members)} restart without their tokens, ${ms} ms`,
      );
      await authenticated(world, async () => {
        await last(ms);
        await Promise.all(members.map((member) => member.kill()));
        for (const member of members) member.launch();
        await Promise.all(members.map((member) => member.healthy()));
        await settled();
      });
    },
  },
  {
    name: 'password-changed',
    async run({ world, dice, say, settled }) {
      const ms = duration(dice);
      say(`with authentication on, the daemons' password is another one for ${ms} ms`);
      await authenticated(world, async () => {
        await world.store.call('auth/user/changepw', { name: USER.name, password: 'another' });
        reconnect(world);
        await last(ms);
        await world.store.call('auth/user/changepw', USER);
        await settled();
      });
    },
  },
  {
    name: 'role-revoked',
    async run({ world, dice, say, settled }) {
      const ms = duration(dice);
      say(`with authentication on, the daemons' role is revoked for ${ms} ms`);
      await authenticated(world, async () => {
        await world.store.call('auth/user/revoke', { name: USER.name, role: ROLE });
        reconnect(world);
        await last(ms);
        await world.store.call('auth/user/grant', { user: USER.name, role: ROLE });
        await settled();
      });
    },
  },
];
