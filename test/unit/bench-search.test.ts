import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { passes, searchRate } from '../../bench/measure/search.js';
import type { Probe } from '../../bench/measure/search.js';

/** A path that forwards up to `capacity` packets a second and loses what is above. */
function path(capacity: number, most = Infinity) {
  return (rate: number): Promise<Probe> => {
    const offered = Math.min(rate, most);
    return Promise.resolve({ rate, offered, loss: Math.max(0, 1 - capacity / offered) });
  };
}

const options = { ceiling: 100_000, tolerance: 0, resolution: 0.01, known: [] };

describe('search for the highest rate', () => {
  test('finds the capacity of an ideal path', async () => {
    await fc.assert(
      fc.asyncProperty(fc.double({ min: 2_000, max: 99_000, noNaN: true }), async (capacity) => {
        const { rate } = await searchRate({ ...options, probe: path(capacity) });
        assert(rate <= capacity && rate >= capacity * 0.98, `${rate} of ${capacity}`);
      }),
    );
  });

  test('some loss may be tolerated', async () => {
    const { rate } = await searchRate({ ...options, tolerance: 0.005, probe: path(40_000) });
    assert(rate > 40_000 * 0.98 && rate <= 40_000 / 0.995);
  });

  test('a path that loses always has no rate, and the search ends', async () => {
    const probe = (rate: number) => Promise.resolve({ rate, offered: rate, loss: 0.1 });
    const { rate, probes } = await searchRate({ ...options, probe });
    assert.equal(rate, 0);
    assert(probes.length <= 10);
  });

  test('a rate that the sender does not reach has not been tested', async () => {
    const { rate } = await searchRate({ ...options, probe: path(90_000, 50_000) });
    assert(rate <= 50_000);
    assert.equal(passes({ rate: 100, offered: 90, loss: 0 }, 0), false);
  });

  test('steps of an earlier search are not repeated', async () => {
    const probe = path(40_000);
    const first = await searchRate({ ...options, tolerance: 0.005, probe });
    const second = await searchRate({ ...options, known: first.probes, probe });
    const again = await searchRate({ ...options, probe });
    assert(second.probes.length < again.probes.length);
    assert(Math.abs(second.rate - again.rate) <= again.rate * 0.01);
  });

  test('a chance success above a failure does not count', async () => {
    const known = [
      { rate: 50_000, offered: 50_000, loss: 0.01 },
      { rate: 80_000, offered: 80_000, loss: 0 },
    ];
    const { rate } = await searchRate({ ...options, known, probe: path(30_000) });
    assert(rate <= 30_000);
  });
});
