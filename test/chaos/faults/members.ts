/** Members of the cluster fail. */
import type { Etcd } from '../../lib/etcd.js';
import { duration, last, named } from '../fault.js';
import type { Act, Fault } from '../fault.js';

async function killed({ world, dice, say }: Act, victims: readonly Etcd[], what = ''): Promise<void> {
  const ms = duration(dice);
  say(`${named('member', victims, world.members)}${what} killed, back after ${ms} ms`);
  await Promise.all(victims.map((member) => member.kill()));
  await last(ms);
  for (const member of victims) member.launch();
  await Promise.all(victims.map((member) => member.healthy()));
}

export const MEMBER_FAULTS: readonly Fault[] = [
  {
    name: 'member-killed',
    run: (act) => killed(act, [act.dice.pick(act.world.members)]),
  },
  {
    name: 'leader-killed',
    run: async (act) => killed(act, [await act.world.cluster.leader()], ', the leader,'),
  },
  {
    name: 'majority-killed',
    run: (act) => killed(act, act.dice.shuffled(act.world.members).slice(0, 2)),
  },
  {
    name: 'member-frozen',
    async run({ world, dice, say }) {
      const frozen = dice.some(world.members);
      const ms = duration(dice);
      say(`${named('member', frozen, world.members)} frozen for ${ms} ms`);
      for (const member of frozen) member.pause();
      await last(ms);
      for (const member of frozen) member.resume();
      await Promise.all(frozen.map((member) => member.healthy()));
    },
  },
];
