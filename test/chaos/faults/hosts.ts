/** What happens on a host while the store has troubles of its own. */
import { duration, last } from '../fault.js';
import type { Act, Fault } from '../fault.js';

const DAY_SECONDS = 86_400;

/** Ways in which a daemon finds its store when it starts. */
const BAD_STARTS: readonly { readonly text: string; begin: (act: Act) => void | Promise<void> }[] = [
  {
    text: 'while etcd refuses connections',
    begin: async ({ world }) => {
      for (const proxy of world.proxies) await proxy.cut();
    },
  },
  {
    text: 'while etcd does not answer',
    begin: ({ world }) => {
      for (const proxy of world.proxies) proxy.hold('down');
    },
  },
  {
    text: 'while answers are torn apart',
    begin: ({ world }) => {
      for (const proxy of world.proxies) proxy.resetInAnswer(100);
    },
  },
  {
    text: 'while two ways of three lead nowhere',
    begin: ({ world, dice }) => {
      for (const proxy of dice.shuffled(world.proxies).slice(0, 2)) proxy.swallow();
    },
  },
];

export const HOST_FAULTS: readonly Fault[] = [
  {
    name: 'restarted-in-fault',
    async run(act) {
      const { world, dice, say } = act;
      const ms = duration(dice);
      const { text, begin } = dice.pick(BAD_STARTS);
      say(`the daemon on host 3 is restarted ${text}, ${ms} ms`);
      await begin(act);
      await world.restartSpare();
      await last(ms);
      await Promise.all(world.proxies.map((proxy) => proxy.open()));
    },
  },
  {
    name: 'restarted-without-lease',
    async run({ world, dice, say }) {
      const ms = duration(dice);
      const key = world.ownKey(3);
      say(`the daemon on host 3 is restarted, and its entry is deleted while it starts, ${ms} ms`);
      await Promise.all(world.proxies.map((proxy) => proxy.cut()));
      await world.restartSpare();
      await world.store.delete(key);
      await last(ms);
      await Promise.all(world.proxies.map((proxy) => proxy.open()));
    },
  },
  {
    name: 'clock-jump',
    missing: (world) => (world.canSetClock ? undefined : 'libfaketime is not installed'),
    async run({ world, dice, say, settled }) {
      const ms = duration(dice);
      const seconds = (dice.chance(0.5) ? 1 : -1) * dice.between(DAY_SECONDS, 400 * DAY_SECONDS);
      const cut = dice.chance(0.5);
      say(
        `the clock of host 3 jumps by ${seconds} s, ${cut ? 'without' : 'with'} connections to etcd, for ${ms} ms`,
      );
      if (cut) await Promise.all(world.proxies.map((proxy) => proxy.cut()));
      await world.setClock(seconds);
      await last(ms);
      await Promise.all(world.proxies.map((proxy) => proxy.open()));
      // Healthy under the wrong time already.
      await settled();
      await world.setClock(0);
    },
  },
];
