/** Paths that become narrow in the middle of traffic, with IPv6 inside the tunnel or around it. */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import type { Daemon, Family } from '../../bench/daemon.js';
import { eventually } from '../lib/eventually.js';
import { FAMILIES } from '../lib/ipv6-networks.js';
import { learns, NARROW, NarrowingPath, pingWith } from '../lib/narrowing-path.js';
import type { NetConf } from '../lib/network.js';
import { endAccounted } from '../lib/traffic.js';

const WIDE = 1500;
const LEAST_IPV6_MTU = 1280;
const PAIRS: readonly { readonly inner: Family; readonly outer: Family }[] = [
  { inner: 6, outer: 4 },
  { inner: 4, outer: 6 },
  { inner: 6, outer: 6 },
];

let path: NarrowingPath;
afterEach(() => path.close());

function probing(config: NetConf): NetConf {
  return { ...config, Backend: { ...(config.Backend as NetConf), ProbeMTU: true } };
}

/** Three echoes in a row are answered, where a busy machine gives them the time. */
async function passWhole(a: Daemon, b: Daemon, echoes: Parameters<typeof pingWith>[2]): Promise<void> {
  await eventually(async () => {
    const [answered, output] = await pingWith(a, b, echoes);
    assert.equal(answered, 3, output);
  });
}

for (const { inner, outer } of PAIRS) {
  const config = FAMILIES[`${inner}/${outer}`];
  const headers = outer === 4 ? 28 : 48;
  const fits = NARROW - headers;

  describe(`IPv${inner} over IPv${outer}, over a path that becomes narrow`, () => {
    test('and says so: a stream goes on, and its sender learns what fits', async () => {
      path = await NarrowingPath.create(config);
      const [a, b] = await path.startBoth();
      const { before, all } = await path.streamMeanwhile(a, b, { family: inner, seconds: 2 });
      assert.ok(all > before, `${all} bytes, ${before} of them before`);
      await learns(a, NARROW);
      assert.match(await a.host.ip('route', 'get', b.addressOf(inner)), new RegExp(` mtu ${fits}\\b`));
      await passWhole(a, b, { size: fits, df: 'do', family: inner });
      await endAccounted(a, b);
      assert.ok((a.counters().get('encap_frag_needed') ?? 0) > 0);
      assert.equal(b.counters().get('encap_frag_needed'), 0);
    });

    test('and says nothing: a stream of hosts that probe goes on, and its sender learns what fits', async () => {
      path = await NarrowingPath.create(probing(config));
      const [a, b] = await path.startBoth();
      await path.silenceRouter();
      const { before, all } = await path.streamMeanwhile(a, b, { family: inner });
      assert.ok(all > before, `${all} bytes, ${before} of them before`);
      await learns(a, NARROW);
      await passWhole(a, b, { size: fits, df: 'do', family: inner });
      await endAccounted(a, b);
      assert.ok((a.counters().get('encap_frag_needed') ?? 0) > 0);
      assert.ok((b.counters().get('decap_probes_answered') ?? 0) > 0);
    });
  });

  if (inner === 6) {
    test(`IPv6 over IPv${outer}: a ping that is too large is answered with the size that fits`, async () => {
      path = await NarrowingPath.create(config);
      const [a, b] = await path.startBoth();
      await path.setLinkMtu(NARROW);
      // The first ones are lost on the way; they teach the kernel, and it the dataplane.
      const answer = new RegExp(`From ${a.overlayAddress6} icmp_seq=\\d+ Packet too big: mtu=${fits}\\b`);
      await eventually(async () => {
        const [, output] = await pingWith(a, b, { size: WIDE - headers, df: 'do', family: 6 });
        assert.match(output, answer);
      });
      // Its sender cuts it from now on, as that of the answer does once it has learned the same.
      await passWhole(a, b, { size: WIDE - headers, df: 'dont', family: 6 });
    });

    test(`IPv6 over IPv${outer}: a path too narrow for 1280 bytes of IPv6 carries them in fragments`, async () => {
      path = await NarrowingPath.create(config);
      const [a, b] = await path.startBoth();
      const { before, all } = await path.streamMeanwhile(a, b, {
        family: 6,
        seconds: 2,
        mtu: LEAST_IPV6_MTU,
      });
      assert.ok(all > before, `${all} bytes, ${before} of them before`);
      await learns(a, LEAST_IPV6_MTU);
      const route = await a.host.ip('route', 'get', b.overlayAddress6);
      assert.match(route, new RegExp(` mtu ${LEAST_IPV6_MTU}\\b`));
      await passWhole(a, b, { size: LEAST_IPV6_MTU, df: 'do', family: 6 });
      await endAccounted(a, b);
    });

    test(`IPv6 over IPv${outer}: the same of a path that says nothing, with a route that names its MTU`, async () => {
      path = await NarrowingPath.create(config);
      const [a, b] = await path.startBoth();
      await path.silenceRouter();
      await path.setLinkMtu(LEAST_IPV6_MTU);
      const echoes = { size: LEAST_IPV6_MTU, df: 'do', family: 6 } as const;
      assert.equal((await pingWith(a, b, echoes))[0], 0);
      await path.nameMtu(LEAST_IPV6_MTU);
      await passWhole(a, b, echoes);
    });
  }
}
