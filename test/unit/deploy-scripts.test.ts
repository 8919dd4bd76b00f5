/** The shell scripts of deploy/, in every shell that hosts have as sh. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { ROOT } from '../../bench/tools.js';

const MK_DOCKER_OPTS = join(ROOT, 'deploy/mk-docker-opts.sh');
const INSTALL_CONF = join(ROOT, 'deploy/install-conf');
const folder = fs.mkdtempSync(join(tmpdir(), 'flannel-deploy-'));
after(() => {
  fs.rmSync(folder, { recursive: true });
});

const ENV =
  'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.74.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n';
const ONE_BY_ONE =
  'DOCKER_OPT_BIP="--bip=10.1.74.1/24"\nDOCKER_OPT_IPMASQ="--ip-masq=true"\nDOCKER_OPT_MTU="--mtu=1472"\n';
const ALL = ' --bip=10.1.74.1/24 --ip-masq=true --mtu=1472';

interface Outcome {
  readonly status: number | null;
  readonly stderr: string;
  readonly written: string;
}

function run(
  shell: string,
  args: readonly string[],
  text: string | null = ENV,
  env: Record<string, string> = {},
): Outcome {
  const [input, output] = [join(folder, 'subnet.env'), join(folder, 'docker.env')];
  fs.rmSync(input, { force: true });
  if (text !== null) fs.writeFileSync(input, text);
  fs.writeFileSync(output, 'old\n');
  const { status, stderr } = spawnSync(shell, [MK_DOCKER_OPTS, '-f', input, '-d', output, ...args], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, ...env },
  });
  return { status, stderr, written: fs.readFileSync(output, 'utf8') };
}

for (const shell of ['dash', 'bash', 'sh']) {
  describe(`mk-docker-opts.sh by ${shell}`, () => {
    const writes = (
      what: string,
      expected: string,
      ...given: [readonly string[], (string | null)?, Record<string, string>?]
    ) => {
      test(what, () => {
        assert.deepEqual(run(shell, ...given), { status: 0, stderr: '', written: expected });
      });
    };
    writes('writes both forms', `${ONE_BY_ONE}DOCKER_OPTS="${ALL}"\n`, []);
    writes('-i: one by one', ONE_BY_ONE, ['-i']);
    writes('-c: combined', `DOCKER_OPTS="${ALL}"\n`, ['-c']);
    writes('-i -c: both', `${ONE_BY_ONE}DOCKER_OPTS="${ALL}"\n`, ['-i', '-c']);
    writes('-k: another name', `DOCKER_NETWORK_OPTIONS="${ALL}"\n`, ['-c', '-k', 'DOCKER_NETWORK_OPTIONS']);
    writes('-m: without masquerading', 'DOCKER_OPTS=" --bip=10.1.74.1/24 --mtu=1472"\n', ['-c', '-m']);
    const masquerading = ENV.replace('false', 'true');
    writes(
      'Docker does not masquerade where flanneld does',
      `DOCKER_OPTS="${ALL.replace('true', 'false')}"\n`,
      ['-c'],
      masquerading,
    );
    writes(
      'what is there already comes first',
      `DOCKER_OPTS="--debug  --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"\n`,
      ['-c'],
      ENV,
      { DOCKER_OPTS: '--debug' },
    );
    writes('other options of the environment join in', `DOCKER_OPTS=" -a${ALL}"\n`, ['-c'], ENV, {
      DOCKER_OPT_A: '-a',
    });
    writes('without subnet.env there are none', 'DOCKER_OPTS=""\n', [], null);

    test('-h and -? and an unknown flag: usage', () => {
      for (const flag of ['-h', '-?', '-x']) {
        const { status, stderr, written } = run(shell, [flag]);
        assert.deepEqual([status, written], [1, 'old\n']);
        assert.match(
          stderr,
          /\[-f FLANNEL-ENV-FILE\] \[-d DOCKER-ENV-FILE\] \[-i\] \[-c\] \[-m\] \[-k COMBINED-KEY\]/,
        );
      }
    });

    test('a FLANNEL_IPMASQ that is neither true nor false is refused', () => {
      const expected = { status: 1, stderr: 'Invalid value of FLANNEL_IPMASQ: maybe\n', written: 'old\n' };
      assert.deepEqual(run(shell, [], ENV.replace('false', 'maybe')), expected);
    });

    test('a name that is none is refused, and not run', () => {
      const { status, stderr } = run(shell, ['-k', 'A;touch /x']);
      assert.equal(status, 1);
      assert.match(stderr, /^-k A;touch \/x is no name of a variable/);
    });

    test('a subnet that another host routes is told, after writing', () => {
      const ip = join(folder, 'ip');
      fs.writeFileSync(
        ip,
        '#!/bin/sh\necho "default via 192.0.2.1 dev eth0"\necho "10.1.74.0/24 via 192.0.2.9 dev eth0"\n',
      );
      fs.chmodSync(ip, 0o755);
      const { status, stderr, written } = run(shell, ['-i'], ENV, {
        PATH: `${folder}:${process.env.PATH ?? ''}`,
      });
      fs.rmSync(ip);
      assert.deepEqual([status, written], [1, ONE_BY_ONE]);
      assert.equal(
        stderr,
        'Your routing table already contains the subnet: 10.1.74.0/24 via 192.0.2.9 dev eth0\n',
      );
    });
  });

  test(`install-conf by ${shell}: copies with the mode, through links, and cleans up when it cannot`, () => {
    const install = (...args: string[]) => spawnSync(shell, [INSTALL_CONF, ...args], { encoding: 'utf8' });
    const [real, from, target] = ['real.json', 'from.json', 'net.d'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    fs.rmSync(target, { recursive: true, force: true });
    fs.mkdirSync(target);
    fs.writeFileSync(real, '{"name":"cbr0"}');
    fs.chmodSync(real, 0o640);
    fs.rmSync(from, { force: true });
    fs.symlinkSync(real, from);
    const to = join(target, '10-flannel.conflist');
    fs.writeFileSync(to, 'old');
    assert.equal(install(from, to).status, 0);
    assert.equal(fs.readFileSync(to, 'utf8'), '{"name":"cbr0"}');
    assert.equal(fs.lstatSync(to).mode, 0o100640);
    assert.equal(install(from).status, 1);
    assert.match(install().stderr, /^usage: .* FROM TO\n$/);
    assert.equal(install(join(folder, 'none'), to).status, 1);
    assert.equal(install(from, join(folder, 'none/to')).status, 1);
    fs.mkdirSync(join(target, 'folder'));
    assert.equal(install(from, join(target, 'folder')).status, 1);
    assert.deepEqual(fs.readdirSync(target).sort(), ['10-flannel.conflist', 'folder']);
    assert.deepEqual(fs.readdirSync(join(target, 'folder')), []);
  });
}
