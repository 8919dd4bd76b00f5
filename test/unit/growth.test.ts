import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Dice } from '../lib/dice.js';
import { holdingsOf, slopeOf, troughs } from '../soak/growth.js';

const HOUR_MS = 3_600_000;

describe('the slope of samples', () => {
  it('is exact for a line', () => {
    const samples = Array.from({ length: 60 }, (_, i) => [i * 1000, 5 + i * 3] as const);
    const { perHour, uncertainty } = slopeOf(samples);
    assert.ok(Math.abs(perHour - 3 * 3600) < 1e-6);
    assert.ok(uncertainty < 1e-6);
  });

  it('holds the true one within its uncertainty, 19 times of 20', () => {
    const dice = new Dice('slope');
    let held = 0;
    for (let run = 0; run < 200; run++) {
      let wave = 0;
      const samples = Array.from({ length: 360 }, (_, i) => {
        // Each sample keeps most of the one before, as memory does between two collections.
        wave = 0.8 * wave + dice.next() - 0.5;
        return [i * 5000, 10 * ((i * 5000) / HOUR_MS) + wave] as const;
      });
      const { perHour, uncertainty } = slopeOf(samples);
      if (Math.abs(perHour - 10) <= uncertainty) held++;
    }
    assert.ok(held >= 180, `${held} of 200`);
  });

  it('is unknown for samples that all say the same wave', () => {
    const samples = Array.from({ length: 12 }, (_, i) => [i, Math.sin(i / 4)] as const);
    assert.equal(slopeOf(samples).uncertainty, Number.POSITIVE_INFINITY);
  });
});

describe('troughs', () => {
  it('are what a saw leaves at its lowest', () => {
    const saw = Array.from({ length: 100 }, (_, i) => [i, 100 + i + (i % 10) * 50] as const);
    assert.deepEqual(
      troughs(saw, 20),
      [0, 20, 40, 60, 80].map((at) => [at, 100 + at]),
    );
    const { perHour, uncertainty } = slopeOf(troughs(saw, 20));
    assert.ok(Math.abs(perHour / HOUR_MS - 1) < 1e-9 && uncertainty / HOUR_MS < 1e-6);
  });
});

describe('the holdings of a process', () => {
  it('are those of the kernel', () => {
    const { rss, descriptors, threads } = holdingsOf(process.pid);
    assert.ok(rss > 10 << 20 && descriptors >= 3 && threads >= 1);
  });
});
