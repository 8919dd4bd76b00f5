import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { quantile, ratioWithinRounds, spread } from '../../bench/measure/statistics.js';
import { judge } from '../../bench/measure/verdict.js';

const byRound = (...values: readonly number[]) => new Map(values.map((value, round) => [round, value]));
const scaled = (values: readonly number[], factor: number) =>
  byRound(...values.map((value) => value * factor));

describe('statistics of rounds', () => {
  test('quantiles are interpolated between neighbours, whatever the order', () => {
    assert.equal(quantile([3, 1, 2], 0.5), 2);
    assert.equal(quantile([4, 1, 3, 2], 0.5), 2.5);
    assert.equal(quantile([1, 2, 3, 4, 5], 0.25), 2);
    assert.equal(quantile([7], 0.9), 7);
    assert(Number.isNaN(quantile([], 0.5)));
  });

  test('a median lies within the range', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: -1e9, max: 1e9, noNaN: true }), { minLength: 1 }), (values) => {
        const { median = NaN, min = NaN, max = NaN, rounds } = spread(values) ?? {};
        assert.equal(rounds, values.length);
        assert(min <= median && median <= max);
      }),
    );
  });

  test('nothing has no spread', () => {
    assert.equal(spread([]), null);
  });

  test('a ratio is taken within each round: a machine that halves its speed in between changes nothing', () => {
    const ratio = ratioWithinRounds(byRound(10, 5, 20), byRound(5, 2.5, 10));
    assert.deepEqual(ratio, { median: 2, min: 2, max: 2, rounds: 3 });
  });

  test('a round in which one side is missing or zero does not count', () => {
    const a = new Map([
      [0, 4],
      [1, 9],
      [2, 5],
    ]);
    const b = new Map([
      [0, 2],
      [2, 0],
      [3, 1],
    ]);
    assert.deepEqual(ratioWithinRounds(a, b), { median: 2, min: 2, max: 2, rounds: 1 });
    assert.equal(ratioWithinRounds(a, new Map()), null);
  });
});

describe('verdict on a cost', () => {
  const base = [10, 11, 9, 10.5, 9.5, 10];

  test('the same', () => {
    assert.equal(judge(scaled(base, 1), scaled(base, 1.04)).word, 'same');
    assert.equal(judge(scaled(base, 1), scaled(base, 0.97)).word, 'same');
  });

  test('worse by more than 5 % in rounds that agree', () => {
    const verdict = judge(scaled(base, 1), scaled(base, 1.1));
    assert.equal(verdict.word, 'worse');
    assert(Math.abs(verdict.ratio - 1.1) < 1e-9);
    assert.equal(verdict.rounds, base.length);
  });

  test('better', () => {
    assert.equal(judge(scaled(base, 1), scaled(base, 0.8)).word, 'better');
  });

  test('unclear where rounds disagree, or are too few', () => {
    assert.equal(judge(byRound(10, 10, 10, 10, 10), byRound(8, 9, 11, 12, 12)).word, 'unclear');
    assert.equal(judge(byRound(10, 10, 10), byRound(20, 20, 20)).word, 'unclear');
    assert.equal(judge(new Map(), new Map()).word, 'unclear');
  });
});
