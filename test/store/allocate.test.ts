import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LeaseError } from '../../src/errors.js';
import { Cidr4, parseIp4 } from '../../src/ip.js';
import { Cidr6 } from '../../src/ip6.js';
import { chooseSubnet, freeSubnets, isCompatible } from '../../src/lease/allocate.js';
import type { SubnetRange } from '../../src/lease/allocate.js';
import { subnetOf } from '../lib/store.js';

function range(min: string, max: string, subnetLen: number): SubnetRange {
  return { subnetMin: parseIp4(min) ?? 0, subnetMax: parseIp4(max) ?? 0, subnetLen };
}

function cidrs(...texts: string[]): Cidr4[] {
  return texts.map((text) => subnetOf(text).v4);
}

function texts(subnets: readonly Cidr4[]): string[] {
  return subnets.map((subnet) => subnet.toString());
}

describe('free subnets', () => {
  it('are counted from the first to the last one, both included', () => {
    assert.deepEqual(texts(freeSubnets(range('10.5.1.0', '10.5.3.0', 24), [])), [
      '10.5.1.0/24',
      '10.5.2.0/24',
      '10.5.3.0/24',
    ]);
    assert.deepEqual(freeSubnets(range('10.5.3.0', '10.5.1.0', 24), []), []);
    assert.equal(freeSubnets(range('10.5.1.0', '10.5.255.0', 24), []).length, 100);
  });

  it('keep clear of leases of any size and order', () => {
    const taken = cidrs(
      '10.5.8.0/21',
      '10.5.2.128/25',
      '10.5.1.7/32',
      '10.5.4.0/24',
      '10.5.10.0/24',
      '10.9.0.0/16',
    );
    assert.deepEqual(texts(freeSubnets(range('10.5.1.0', '10.5.17.0', 24), taken)), [
      '10.5.3.0/24',
      '10.5.5.0/24',
      '10.5.6.0/24',
      '10.5.7.0/24',
      '10.5.16.0/24',
      '10.5.17.0/24',
    ]);
    assert.deepEqual(freeSubnets(range('10.5.1.0', '10.5.17.0', 24), cidrs('0.0.0.0/0')), []);
  });

  it('end where the addresses end', () => {
    const last = range('255.255.254.0', '255.255.255.0', 24);
    assert.deepEqual(texts(freeSubnets(last, [])), ['255.255.254.0/24', '255.255.255.0/24']);
    assert.deepEqual(texts(freeSubnets(last, cidrs('255.255.255.128/25'))), ['255.255.254.0/24']);
  });

  it('agree with a slow search over random leases', () => {
    for (let round = 0; round < 200; round++) {
      const taken = Array.from({ length: 40 }, () => {
        const length = 20 + Math.floor(Math.random() * 12);
        return new Cidr4(0x0a050000 + Math.floor(Math.random() * 0x10000), length);
      });
      const slow: string[] = [];
      for (let ip = 0x0a050100; ip <= 0x0a05ff00; ip += 256) {
        const subnet = new Cidr4(ip, 24);
        if (!taken.some((other) => other.overlaps(subnet))) slow.push(subnet.toString());
      }
      const found = freeSubnets(range('10.5.1.0', '10.5.255.0', 24), taken, Infinity);
      assert.deepEqual(texts(found), slow, texts(taken).join(' '));
    }
  });

  it('are found quickly among 60,000 leases', () => {
    const taken = Array.from(
      { length: 60_000 },
      (_, i) => new Cidr4(0x0a000000 + ((i * 7919) % 60_000) * 256, 24),
    );
    const before = process.cpuUsage();
    const found = freeSubnets(range('10.0.0.0', '10.255.255.0', 24), taken);
    const ms = process.cpuUsage(before).user / 1000;
    assert.equal(found.length, 100);
    assert.equal(found[0]?.toString(), new Cidr4(0x0a000000 + 60_000 * 256, 24).toString());
    assert.ok(ms < 500, `${ms} ms of CPU`);
  });
});

describe('the choice', () => {
  const small = range('10.5.1.0', '10.5.4.0', 24);

  it('falls on every candidate alike', () => {
    const counts = new Map<string, number>();
    for (let i = 0; i < 4_000; i++) {
      const chosen = chooseSubnet(small, [], () => (i + 0.5) / 4_000).toString();
      counts.set(chosen, (counts.get(chosen) ?? 0) + 1);
    }
    assert.deepEqual([...counts.values()], [1_000, 1_000, 1_000, 1_000]);
  });

  const used = (...leases: [string, number][]) =>
    leases.map(([text, since]) => ({ subnet: subnetOf(text), since }));

  it('prefers subnets that were never used', () => {
    const former = used(['10.5.1.0/24', 1], ['10.5.3.0/24', 2]);
    for (const dice of [0, 0.4, 0.6, 0.999]) {
      const chosen = chooseSubnet(small, [], () => dice, former).toString();
      assert.equal(chosen, dice < 0.5 ? '10.5.2.0/24' : '10.5.4.0/24');
    }
  });

  it('then those that have been out of use for longest', () => {
    const former = used(['10.5.1.0/24', 30], ['10.5.2.0/24', 10], ['10.5.3.0/24', 20], ['10.5.4.0/24', 40]);
    for (const dice of [0, 0.5, 0.999]) {
      assert.equal(chooseSubnet(small, [], () => dice, former).toString(), '10.5.2.0/24');
      assert.equal(chooseSubnet(small, cidrs('10.5.2.0/24'), () => dice, former).toString(), '10.5.3.0/24');
    }
  });

  it('counts a use of a larger or smaller size, and the last one of several', () => {
    const former = used(
      ['10.5.2.0/23', 10],
      ['10.5.4.0/25', 5],
      ['10.5.4.128/25', 8],
      ['10.5.1.0/24', 9],
      ['10.0.0.0/8', 1],
    );
    assert.equal(chooseSubnet(small, [], () => 0, former).toString(), '10.5.4.0/24');
    assert.throws(
      () => chooseSubnet(small, cidrs('10.0.0.0/8'), () => 0, former),
      /^LeaseError: out of subnets/,
    );
  });

  it('is spread over a quarter of many used ones, so that hosts do not all go for one', () => {
    const wide = range('10.5.1.0', '10.5.40.0', 24);
    const former = used(...Array.from({ length: 40 }, (_, i): [string, number] => [`10.5.${i + 1}.0/24`, i]));
    const chosen = Array.from({ length: 100 }, (_, i) =>
      chooseSubnet(wide, [], () => (i + 0.5) / 100, former).toString(),
    );
    assert.deepEqual(
      [...new Set(chosen)],
      Array.from({ length: 10 }, (_, i) => `10.5.${i + 1}.0/24`),
    );
  });

  it('fails with figures and a remedy when there is none', () => {
    const taken = cidrs('10.5.1.0/24', '10.5.2.0/24', '10.5.3.0/24', '10.5.4.0/24', '10.77.0.0/16');
    assert.throws(
      () => chooseSubnet(small, taken, Math.random),
      (error: Error) => {
        assert.ok(error instanceof LeaseError);
        assert.match(error.message, /^out of subnets: 4 leases .* all 4 .*10\.5\.1\.0 to 10\.5\.4\.0; widen/);
        return true;
      },
    );
  });
});

describe('a compatible subnet', () => {
  it('is one that the allocation could have given', () => {
    const network = range('10.5.1.0', '10.5.255.0', 24);
    const fits = (text: string, v6: Cidr6 | null = null): boolean =>
      isCompatible({ ...subnetOf(text), v6 }, network);
    assert.ok(fits('10.5.1.0/24') && fits('10.5.255.0/24'));
    for (const text of ['10.5.0.0/24', '10.6.0.0/24', '10.5.1.0/25', '10.5.2.0/23', '10.5.1.7/24']) {
      assert.ok(!fits(text), text);
    }
    assert.ok(!fits('10.5.1.0/24', new Cidr6('fd00::', 64)));
  });
});
