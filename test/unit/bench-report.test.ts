import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatChart } from '../../bench/report/chart.js';
import { formatReport } from '../../bench/report/markdown.js';
import { formatMetric, formatNumber } from '../../bench/report/metrics.js';
import { buildResult, chooseSamples } from '../../bench/report/result.js';
import type { Result } from '../../bench/report/result.js';
import type { Absence, Sample } from '../../bench/session.js';
import { TRIALS } from '../../bench/trials/registry.js';

const QUIET = { cpu: 0.9, steal: 0, foreign: 0, clockJump: 0 };

function sample(
  trial: string,
  contender: string,
  round: number,
  pps: number,
  change: Partial<Sample> = {},
): Sample {
  const about = { trial, contender, round, attempt: 0, machine: QUIET, error: null, disturbances: [] };
  return { ...about, values: { pps, fwd_us_per_packet: 1e6 / pps }, discarded: false, ...change };
}

function result(samples: readonly Sample[], absences: readonly Absence[] = []): Result {
  return buildResult(
    {
      command: 'npm run bench -- --trials=udp64',
      started: '2030-01-02T03:04:05.000Z',
      seconds: 90,
      machine: {
        ...{ commit: '0123456789abcdef', modified: false, kernel: '6.1', cpu: 'A <fast> CPU', cores: 2 },
        ...{ memoryGiB: 4, architecture: 'x64', congestionControl: 'cubic', versions: {} },
      },
      settings: { rounds: 3, sampleSeconds: 1, limits: { steal: 0.05, foreign: 0.1, clockJump: 0.1 } },
      contenders: ['bare', 'vxlan', 'classic', 'full'].map((name) => ({ name, summary: `about ${name}` })),
      interrupted: false,
    },
    TRIALS,
    { samples, absences, notes: new Set(['a note']), discardedTurns: 0, missingTurns: 0, outOfTime: false },
  );
}

const threeRounds = [0, 1, 2].flatMap((round) => [
  sample('udp64', 'classic', round, 50_000 * (round + 1)),
  sample('udp64', 'full', round, 250_000 * (round + 1)),
]);

describe('results', () => {
  test('medians, ranges, and ratios within the rounds', () => {
    const { figures, ratios, complete } = result(threeRounds);
    assert.deepEqual(
      figures.find(({ contender, metric }) => contender === 'full' && metric === 'pps'),
      {
        trial: 'udp64',
        metric: 'pps',
        contender: 'full',
        median: 500_000,
        min: 250_000,
        max: 750_000,
        rounds: 3,
      },
    );
    assert.deepEqual(
      ratios.find(({ contender, metric }) => contender === 'full' && metric === 'pps'),
      {
        trial: 'udp64',
        metric: 'pps',
        contender: 'full',
        against: 'classic',
        median: 5,
        min: 5,
        max: 5,
        rounds: 3,
      },
    );
    assert(complete);
  });

  test('a discarded round is in the samples, but in no figure', () => {
    const wrong = { discarded: true, disturbances: ['50 % used by other processes'] };
    const { figures, trials, samples } = result([
      sample('udp64', 'full', 0, 1, wrong),
      sample('udp64', 'full', 1, 300_000),
      sample('udp64', 'full', 0, 200_000, { attempt: 1 }),
    ]);
    const pps = figures.find(({ metric }) => metric === 'pps');
    assert.deepEqual([pps?.min, pps?.max, pps?.rounds], [200_000, 300_000, 2]);
    assert.deepEqual([trials[0]?.rounds, trials[0]?.discarded, trials[0]?.disturbed], [2, 1, false]);
    assert.equal(samples.length, 3);
  });

  test('where all rounds were disturbed, the last attempts are shown and marked', () => {
    const wrong = { discarded: true, disturbances: ['20 % stolen by the hypervisor'] };
    const all = [
      sample('udp64', 'full', 0, 1, wrong),
      sample('udp64', 'full', 0, 2, { ...wrong, attempt: 1 }),
      sample('udp64', 'full', 1, 3, wrong),
    ];
    const { samples, outcome } = chooseSamples(all, 'udp64');
    assert.deepEqual(
      samples.map(({ values }) => values.pps),
      [2, 3],
    );
    assert.deepEqual(outcome, { trial: 'udp64', rounds: 2, discarded: 1, disturbed: true });
    const report = formatReport(result(all), TRIALS);
    assert.match(report, /all of them disturbed: not to be relied on/);
    assert.match(report, /never undisturbed: udp64/);
  });

  test('a variant is compared with the first of its trial', () => {
    const { ratios } = result([
      sample('routes1', 'full', 0, 400_000),
      sample('routes65536', 'full', 0, 390_000),
    ]);
    const ratio = ratios.find(({ trial, metric }) => trial === 'routes65536' && metric === 'pps');
    assert.equal(ratio?.against, 'full@routes1');
    assert.equal(ratio.median, 0.975);
  });

  test('a failure makes it incomplete, and is told', () => {
    const failed = { values: {}, machine: null, error: 'no route to host\nat all' };
    const { complete, failures } = result([sample('udp64', 'full', 0, 0, failed)]);
    assert.deepEqual([complete, failures], [false, 1]);
  });
});

describe('the report', () => {
  const absent = [{ trial: 'udp64', contender: 'wireguard-go', reason: 'not installed: wireguard-go' }];
  const report = formatReport(result(threeRounds, absent), TRIALS);

  test('says on what it was measured', () => {
    assert.match(report, /^- A <fast> CPU, 2 cores, 4 GiB; Linux 6\.1 x64, TCP cubic$/m);
  });

  test('has a table for each trial that was measured', () => {
    assert.match(report, /^## udp64$/m);
    assert.doesNotMatch(report, /^## tcp1$/m);
    assert.match(report, /\| full +\| 500 \(250–750\) +\|/);
    assert.match(report, /5\.00x \(5\.00–5\.00\)/);
  });

  test('says what was measured on what, and what could not be', () => {
    assert.match(report, /A <fast> CPU, 2 cores, 4 GiB; Linux 6\.1/);
    assert.match(report, /commit 0123456789ab,/);
    assert.match(report, /`npm run bench -- --trials=udp64`/);
    assert.match(report, /not measured: wireguard-go: not installed: wireguard-go \(udp64\)/);
    assert.match(report, /^- a note$/m);
  });

  test('the chart is well-formed and draws every contender', () => {
    const chart = formatChart(result(threeRounds), TRIALS);
    assert.match(chart, /^<svg [^>]*xmlns=/);
    assert.match(chart, /A &lt;fast&gt; CPU/);
    assert.equal(chart.match(/<rect /g)?.length, 3);
    const opened = chart.match(/<(?:text|svg)\b/g)?.length;
    assert.equal(chart.match(/<\/(?:text|svg)>/g)?.length, opened);
    assert.doesNotMatch(chart, /NaN|Infinity|undefined/);
  });
});

test('numbers have about three digits', () => {
  assert.deepEqual([0, 0.1234, 1.234, 12.34, 123.4, NaN].map(formatNumber), [
    '0.00',
    '0.123',
    '1.23',
    '12.3',
    '123',
    '–',
  ]);
  assert.equal(formatMetric('pps', 123_456), '123');
  assert.equal(formatMetric('loss', 0.005), '0.500');
});
