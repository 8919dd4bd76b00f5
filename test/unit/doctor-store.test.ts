/** What doctor says about a store names that store and its flags, whatever other flags are there. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { checkClock } from '../../src/doctor/clock.js';
import type { Observed, StoreFacts } from '../../src/doctor/observe.js';
import { checkStore } from '../../src/doctor/store.js';
import { parseFlags } from '../../src/flags.js';

function observed(argv: readonly string[], store: Partial<StoreFacts> & Pick<StoreFacts, 'kind'>): Observed {
  const command = parseFlags(argv, {});
  assert.equal(command.kind, 'run');
  const nothing = { description: 'it', problem: null, config: null, configProblem: null, leases: null };
  return {
    options: command.options,
    store: { ...nothing, ...store },
    host: { links: [], addresses: [], routes: [], v6: null },
    external: null,
    externalProblem: null,
    attrs: null,
    settingsProblem: null,
    port: 8285,
    underlay: 'ipv4',
    ownSubnets: { v4: null, v6: null },
    owner: { alive: false, device: null },
  };
}

describe('a store that does not answer, and one without a config', () => {
  const cases = [
    [
      'etcd',
      ['--etcd-endpoints=http://10.0.0.10:2379'],
      /^etcdctl --endpoints=http:\/\/10\.0/,
      /^etcdctl put /,
    ],
    ['directory', ['--subnet-dir=/leases'], /^mkdir -p \/leases, /, /^echo .* > \/leases\/config, /],
    [
      'Kubernetes',
      ['--kube-subnet-mgr', '--subnet-dir=/leases', '--net-config-path=/etc/net.json'],
      /^kubectl get --raw \/readyz /,
      /^echo .* > \/etc\/net\.json, /,
    ],
  ] as const;
  for (const [kind, flags, reach, config] of cases) {
    test(kind, () => {
      const away = checkStore(observed(flags, { kind, problem: 'gone' }));
      assert.deepEqual(
        away.map(({ id, status }) => [id, status]),
        [['store', 'error']],
      );
      assert.match(away[0]?.remedy ?? '', reach);
      const empty = checkStore(observed(flags, { kind, configProblem: 'not there' }));
      assert.deepEqual(
        empty.map(({ id, status }) => [id, status]),
        [
          ['store', 'ok'],
          ['config', 'error'],
        ],
      );
      assert.match(empty[1]?.remedy ?? '', config);
    });
  }
});

test('the clock is not compared with that of an etcd that is not in use', async () => {
  const flags = ['--kube-subnet-mgr', '--etcd-endpoints=http://127.0.0.1:9'];
  const { status, found } = await checkClock(observed(flags, { kind: 'Kubernetes' }));
  assert.equal(status, 'skipped');
  assert.match(found, /^the Kubernetes API/);
});
