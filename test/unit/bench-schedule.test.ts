import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { foreignSeconds, parseProcessStat, readMachine, withDescendants } from '../../bench/measure/cpu.js';
import { DEFAULT_LIMITS, disturbances } from '../../bench/measure/disturbance.js';
import { inTurn, runPlan } from '../../bench/measure/schedule.js';
import type { Turn } from '../../bench/measure/schedule.js';

/** Runs a plan on a clock of its own, where a turn takes a second; resolves with what was taken and the outcome. */
async function simulate(
  options: { trials?: string[]; rounds?: number; repeats?: number; deadline?: number },
  disturbed: (turn: Turn<string>) => boolean = () => false,
) {
  const taken: string[] = [];
  let clock = 0;
  const outcome = await runPlan({
    trials: ['a', 'b'],
    rounds: 2,
    repeats: 1,
    deadline: Infinity,
    ...options,
    now: () => clock,
    take: (turn) => {
      clock += 1000;
      taken.push(`${turn.trial}${turn.round}${"'".repeat(turn.attempt)}`);
      return Promise.resolve(disturbed(turn));
    },
  });
  return { taken: taken.join(' '), ...outcome };
}

describe('order of measuring', () => {
  test('every other round is reversed', () => {
    const names = ['x', 'y', 'z'];
    assert.deepEqual(inTurn(names, 0), ['x', 'y', 'z']);
    assert.deepEqual(inTurn(names, 1), ['z', 'y', 'x']);
    assert.deepEqual(inTurn(names, 2), ['x', 'y', 'z']);
    assert.deepEqual(names, ['x', 'y', 'z']);
  });

  test('trials take turns within a round', async () => {
    const result = await simulate({});
    assert.equal(result.taken, 'a0 b0 a1 b1');
    assert.deepEqual([result.discarded, result.missing, result.outOfTime], [0, 0, false]);
  });

  test('a disturbed turn is repeated at the end', async () => {
    const result = await simulate({}, ({ trial, round, attempt }) => trial === 'a' && round + attempt === 0);
    assert.equal(result.taken, "a0 b0 a1 b1 a0'");
    assert.deepEqual([result.discarded, result.missing], [1, 0]);
  });

  test('repetitions are bounded', async () => {
    const result = await simulate({ trials: ['a'], rounds: 1, repeats: 2 }, () => true);
    assert.equal(result.taken, "a0 a0' a0''");
    assert.deepEqual([result.discarded, result.missing], [3, 1]);
  });

  test('nothing is begun that would end too late', async () => {
    const result = await simulate({ deadline: 3500 });
    assert.equal(result.taken, 'a0 b0 a1');
    assert.deepEqual([result.missing, result.outOfTime], [1, true]);
  });

  test('a trial that has not run yet is begun while there is any time', async () => {
    assert.equal((await simulate({ rounds: 1, deadline: 1500 })).taken, 'a0 b0');
    assert.equal((await simulate({ rounds: 1, deadline: 1000 })).taken, 'a0');
  });
});

describe('disturbances', () => {
  const quiet = { cpu: 1, steal: 0.01, foreign: 0.02, clockJump: 0.001 };

  test('a quiet machine, however busy with the benchmark itself', () => {
    assert.deepEqual(disturbances(quiet, DEFAULT_LIMITS), []);
  });

  test('each has its words', () => {
    const reasons = (change: object) => disturbances({ ...quiet, ...change }, DEFAULT_LIMITS).join('; ');
    assert.equal(reasons({ steal: 0.2 }), '20 % stolen by the hypervisor');
    assert.equal(reasons({ foreign: 0.5 }), '50 % used by other processes');
    assert.equal(reasons({ clockJump: -1.5 }), 'the clock jumped by -1.50 s');
  });
});

describe('processor time from /proc', () => {
  test('the machine', () => {
    const machine = readMachine('cpu  10 1 20 300 5 2 3 40 10 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n');
    assert.deepEqual(machine, { total: 381, busy: 36, steal: 40 });
  });

  test('a process, whatever its name', () => {
    const fields = ['S', 7, 1, 1, 0, -1, 0, 0, 0, 0, 0, 100, 20, 3, 4, 20, 0];
    const parsed = parseProcessStat(`42 (a) b (c)) ${fields.join(' ')}`);
    assert.deepEqual(parsed, { pid: 42, parent: 7, ticks: 127 });
    assert.equal(parseProcessStat('nothing of the kind'), null);
  });

  const table = [
    { pid: 1, parent: 0, ticks: 100 },
    { pid: 2, parent: 0, ticks: 1000 },
    { pid: 20, parent: 2, ticks: 1000 },
    { pid: 30, parent: 1, ticks: 7 },
    { pid: 31, parent: 30, ticks: 50 },
    { pid: 32, parent: 31, ticks: 50 },
    { pid: 40, parent: 1, ticks: 250 },
  ];

  test('descendants', () => {
    assert.deepEqual([...withDescendants(table, [30])], [30, 31, 32]);
  });

  test('foreign is what is neither below the benchmark nor the kernel', () => {
    // 1, its child 30 that started the benchmark, and 40.
    assert.equal(foreignSeconds(table, 31), 3.57);
  });
});
