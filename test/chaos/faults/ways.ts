/** The ways between daemons and their store break; the store itself is well. */
import type { Dice } from '../../lib/dice.js';
import type { TcpProxy, Way } from '../../lib/tcp-proxy.js';
import { duration, last, named } from '../fault.js';
import type { Act, Fault } from '../fault.js';

const DIRECTIONS: readonly (readonly Way[])[] = [['up'], ['down'], ['up', 'down']];

/** What has ways: to each member of a cluster, or from each host. */
export interface Roads {
  readonly proxies: readonly TcpProxy[];
}

/** A fault of some of the ways, from one to all. `begin` also says what it is in words. */
function onTheWay(name: string, plan: (dice: Dice) => Weather): Fault<Roads> {
  return {
    name,
    async run({ world, dice, say }: Act<Roads>) {
      const proxies = dice.some(world.proxies);
      const ms = duration(dice);
      const { text, begin } = plan(dice);
      say(`way ${named('number', proxies, world.proxies)} ${text}, for ${ms} ms`);
      for (const proxy of proxies) await begin(proxy);
      await last(ms);
      await Promise.all(proxies.map((proxy) => proxy.open()));
    },
  };
}

interface Weather {
  readonly text: string;
  readonly begin: (proxy: TcpProxy) => void | Promise<void>;
}

export const WAY_FAULTS: readonly Fault<Roads>[] = [
  onTheWay('refused', () => ({
    text: 'resets and refuses connections',
    begin: (proxy) => proxy.cut(),
  })),

  onTheWay('reset', () => ({
    text: 'resets the connections of this moment',
    begin: (proxy) => {
      proxy.reset();
    },
  })),

  onTheWay('half-open', (dice) => {
    const ways = dice.pick(DIRECTIONS);
    return {
      text: `loses all bytes ${ways.join(' and ')}, and connections stay`,
      begin: (proxy) => {
        proxy.swallow(...ways);
      },
    };
  }),

  onTheWay('stalled', (dice) => {
    const ways = dice.pick(DIRECTIONS);
    return {
      text: `holds all bytes ${ways.join(' and ')} back`,
      begin: (proxy) => {
        proxy.hold(...ways);
      },
    };
  }),

  onTheWay('delayed', (dice) => {
    const ways = dice.pick(DIRECTIONS);
    const delayMs = dice.between(50, 1500);
    return {
      text: `takes ${delayMs} ms ${ways.join(' and ')}`,
      begin: (proxy) => {
        for (const way of ways) proxy.slow(way, { delayMs });
      },
    };
  }),

  onTheWay('throttled', (dice) => {
    const bytesPerSecond = dice.between(100, 2000);
    return {
      text: `carries ${bytesPerSecond} bytes a second`,
      begin: (proxy) => {
        for (const way of ['up', 'down'] as const) proxy.slow(way, { bytesPerSecond });
      },
    };
  }),

  onTheWay('reset-in-answer', (dice) => {
    const bytes = dice.between(1, 60);
    return {
      text: `resets after ${bytes} bytes of an answer`,
      begin: (proxy) => {
        proxy.resetInAnswer(bytes);
      },
    };
  }),
];
