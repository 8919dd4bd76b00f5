import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fillIn, parametersOf } from '../../bench/contenders/external.js';
import { UsageError, parseOptions } from '../../bench/options.js';
import type { BenchOptions } from '../../bench/options.js';
import { stagesOf } from '../../bench/session.js';
import { PLAIN } from '../../bench/trials/trial.js';
import { TRIALS } from '../../bench/trials/registry.js';

function options(...args: string[]): BenchOptions {
  const command = parseOptions(args);
  assert(command.kind === 'run');
  return command.options;
}

const names = (items: readonly { readonly name: string }[]) => items.map(({ name }) => name);

describe('arguments of the benchmark', () => {
  test('everything by default', () => {
    const { trials, contenders, rounds, seconds, budget, json, svg } = options();
    assert.deepEqual(names(trials), names(TRIALS));
    assert.deepEqual(names(contenders), [
      ...['bare', 'vxlan', 'c-loop', 'classic', 'batch', 'udp-offload', 'full', 'wireguard-go'],
    ]);
    assert.deepEqual([rounds, seconds, budget, json, svg], [5, 3, Infinity, null, null]);
  });

  test('--quick is an answer within three minutes, and can be changed', () => {
    const quick = options('--quick', '--rounds', '2');
    assert.deepEqual(names(quick.trials), ['tcp1', 'udp64', 'udp1400', 'imix', 'rtt', 'rtt-tcp']);
    assert.equal(quick.rounds, 2);
    assert(quick.budget < 180);
    assert(!names(quick.contenders).includes('wireguard-go'));
    assert(names(options('--quick', '--contenders=wireguard-go').contenders).includes('wireguard-go'));
  });

  test('selections keep the order of the report', () => {
    assert.deepEqual(names(options('--trials', 'udp64,tcp1').trials), ['tcp1', 'udp64']);
    assert.deepEqual(names(options('--contenders=full,bare').contenders), ['bare', 'full']);
  });

  test('a contender of one’s own', () => {
    const { contenders } = options('--contender', 'mine=./tunnel {local}={peer}', '--contenders=bare,mine');
    assert.deepEqual(names(contenders), ['bare', 'mine']);
  });

  for (const [what, args, words] of [
    ['an unknown trial', ['--trials=tcp9'], /unknown trial "tcp9"; there are tcp1, .*routes/],
    ['an unknown contender', ['--contenders=fast'], /unknown contender "fast"; there are bare, vxlan/],
    ['an empty selection', ['--trials='], /names none/],
    ['a contender without a command', ['--contender', 'mine'], /write NAME=COMMAND/],
    ['a name that is taken', ['--contender', 'full=x'], /two contenders full/],
    ['a contender that is left out', ['--contender', 'a=b', '--contenders=bare'], /leaves out a/],
    ['no whole number', ['--rounds=1.5'], /--rounds "1.5": write a whole number/],
    ['no number', ['--seconds=long'], /--seconds "long": write a number above 0/],
    ['an unknown option', ['--fast'], /--help lists the options/],
    ['an argument', ['tcp1'], /--help lists the options/],
  ] as const) {
    test(`refuses ${what}`, () => {
      assert.throws(
        () => parseOptions(args),
        (error) => error instanceof UsageError && words.test(error.message),
      );
    });
  }

  test('names are used once', () => {
    const labels = TRIALS.flatMap(({ variants }) => variants.map(({ label }) => label));
    assert.equal(new Set(labels).size, labels.length);
    assert.equal(new Set(names(TRIALS)).size, TRIALS.length);
  });

  test('trials in the same circumstances share their hosts', () => {
    const stages = stagesOf(TRIALS);
    const plain = stages.find(({ scenarios }) => JSON.stringify(scenarios) === JSON.stringify([PLAIN]));
    assert(plain);
    assert(names(plain.trials).includes('tcp1') && names(plain.trials).includes('rtt-tcp'));
    assert.equal(
      stages.reduce((sum, { trials }) => sum + trials.length, 0),
      TRIALS.length,
    );
  });
});

describe('what an external contender is told', () => {
  const parameters = parametersOf(1, ['192.168.77.1', '192.168.77.2'], PLAIN, '/tmp/x');

  test('each host sees itself and its peer', () => {
    assert.deepEqual(parameters, {
      host: '2',
      local: '192.168.77.2',
      peer: '192.168.77.1',
      tun: 'bench0',
      address: '10.99.2.1',
      subnet: '10.99.2.0/24',
      peer_subnet: '10.99.1.0/24',
      network: '10.99.0.0/16',
      mtu: '1500',
      dir: '/tmp/x',
    });
  });

  test('other braces are the shell’s', () => {
    assert.equal(
      fillIn('x {peer} ${HOME} {a,b} {nothing}', parameters),
      'x 192.168.77.1 ${HOME} {a,b} {nothing}',
    );
  });
});
