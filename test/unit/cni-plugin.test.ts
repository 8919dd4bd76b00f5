/** The CNI plugin as a program: what it prints and how it ends, whatever it is given. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const PLUGIN = fileURLToPath(new URL('../../cni/flannel.cjs', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'flannel-cni-test-'));
after(() => {
  rmSync(folder, { recursive: true });
});

const POD = { CNI_CONTAINERID: 'pod', CNI_IFNAME: 'eth0', CNI_NETNS: '/run/netns/none', CNI_PATH: folder };
const subnetFile = join(folder, 'subnet.env');
const conf = (more: object = {}) => ({
  cniVersion: '1.1.0',
  name: 'net',
  type: 'flannel',
  subnetFile,
  dataDir: join(folder, 'state'),
  ...more,
});

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(env: Record<string, string>, input: unknown = ''): Promise<Outcome> {
  const child = spawn(process.execPath, [PLUGIN], { env });
  const outcome = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => (outcome[name] += text));
  }
  child.stdin.on('error', () => undefined); // it may end without reading
  child.stdin.end(typeof input === 'string' ? input : JSON.stringify(input));
  await once(child, 'close');
  return { code: child.exitCode, ...outcome };
}

/** Runs it; it must fail with a CNI error. */
async function fails(env: Record<string, string>, input: unknown): Promise<Record<string, unknown>> {
  const { code, stdout } = await run(env, input);
  assert.equal(code, 1, stdout);
  return JSON.parse(stdout) as Record<string, unknown>;
}

test('without a command it says what it is', async () => {
  const { code, stdout, stderr } = await run({});
  assert.deepEqual([code, stdout], [0, '']);
  assert.match(
    stderr,
    /^CNI Plugin flannel version \d+\.\d+\.\d+ \(linux\/\w+\)\nCNI protocol versions supported: 0\.1\.0, /,
  );
});

test('VERSION', async () => {
  const { code, stdout } = await run({ CNI_COMMAND: 'VERSION' });
  assert.equal(code, 0);
  assert.equal(
    stdout,
    '{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}\n',
  );
});

describe('a request is refused', () => {
  const ADD = { ...POD, CNI_COMMAND: 'ADD' };
  for (const [what, env, input, expected] of [
    [
      'of an unknown command',
      { CNI_COMMAND: 'TELEPORT' },
      '',
      { code: 4, msg: 'unknown CNI_COMMAND: TELEPORT' },
    ],
    [
      'without its variables',
      { CNI_COMMAND: 'ADD', CNI_PATH: '/' },
      '',
      { code: 4, msg: 'required env variables [CNI_CONTAINERID,CNI_IFNAME,CNI_NETNS] missing' },
    ],
    ['whose config is no JSON', ADD, '{', { code: 6, cniVersion: '1.1.0' }],
    ['whose config is a list', ADD, [], { code: 6 }],
    [
      'without a name',
      ADD,
      { cniVersion: '1.0.0' },
      { code: 7, msg: 'missing network name', cniVersion: '1.0.0' },
    ],
    ['with a name that is a path', ADD, conf({ name: '../x' }), { code: 7 }],
    [
      'with a container id that is a path',
      { ...ADD, CNI_CONTAINERID: '../x' },
      conf(),
      { code: 4, msg: 'invalid characters in containerID', details: '../x' },
    ],
    [
      'with a long interface name',
      { ...ADD, CNI_IFNAME: 'x'.repeat(16) },
      conf(),
      { code: 4, msg: 'interface name is too long' },
    ],
    ['with an interface name of several words', { ...ADD, CNI_IFNAME: 'a b' }, conf(), { code: 4 }],
    [
      'of a version to come',
      ADD,
      conf({ cniVersion: '9.0.0' }),
      { code: 1, msg: 'incompatible CNI versions' },
    ],
    [
      'CHECK before 0.4.0',
      { ...POD, CNI_COMMAND: 'CHECK' },
      conf({ cniVersion: '0.3.1' }),
      { code: 1, msg: 'config version does not allow CHECK', cniVersion: '0.3.1' },
    ],
    [
      'STATUS before 1.1.0',
      { ...POD, CNI_COMMAND: 'STATUS' },
      conf({ cniVersion: '1.0.0' }),
      { code: 1, msg: 'config version does not allow STATUS' },
    ],
    [
      "for the plugin's own namespace",
      { ...ADD, CNI_NETNS: '/proc/self/ns/net' },
      conf(),
      { code: 8, details: '/proc/self/ns/net' },
    ],
    ['with a delegate that names the network', ADD, conf({ delegate: { name: 'x' } }), { code: 999 }],
  ] as const) {
    test(what, async () => {
      const error = await fails(env, input);
      assert.deepEqual({ ...error, ...expected }, error);
    });
  }
});

test('a config whose delegate is missing says where it was looked for, and DEL is done all the same', async () => {
  writeFileSync(
    subnetFile,
    'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_MTU=9\nFLANNEL_IPMASQ=x',
  );
  const { code, msg } = await fails({ ...POD, CNI_COMMAND: 'ADD' }, conf());
  assert.deepEqual([code, msg], [999, `failed to find plugin "bridge" in path [${folder}]`]);
  assert.match(readFileSync(join(folder, 'state/pod'), 'utf8'), /"type":"bridge"/);
  writeFileSync(join(folder, 'state/pod'), '{"half');
  const { code: status, stdout, stderr } = await run({ ...POD, CNI_COMMAND: 'DEL' }, conf());
  assert.deepEqual([status, stdout], [0, '']);
  assert.match(stderr, /failed to parse netconf of pod/);
  assert.throws(() => readFileSync(join(folder, 'state/pod')), { code: 'ENOENT' });
  rmSync(subnetFile);
});

describe('an error names the reason that flanneld gives', () => {
  async function whileFlanneldSays(answer: string, action: () => Promise<void>): Promise<void> {
    const server = createServer((request, response) => {
      response.end(request.url === '/?peers=none' ? answer : '{}');
    }).listen(join(folder, 'subnet.status.sock'));
    await once(server, 'listening');
    try {
      await action();
    } finally {
      server.close();
    }
  }
  const waiting = '{"schema":1,"ready":false,"phase":"lease","reason":"node \\"n1\\" pod cidr not assigned"}';

  test('at ADD', async () => {
    await whileFlanneldSays(waiting, async () => {
      const error = await fails({ ...POD, CNI_COMMAND: 'ADD' }, conf());
      assert.deepEqual(error, {
        cniVersion: '1.1.0',
        code: 11,
        msg: `failed to load flannel 'subnet.env' file: open ${subnetFile}: no such file or directory. Check the flannel pod log for this node.`,
        details: 'flanneld says: node "n1" pod cidr not assigned',
      });
    });
  });

  test('at STATUS, and whether pods may be cut off', async () => {
    const ask = () => fails({ CNI_COMMAND: 'STATUS', CNI_PATH: folder }, conf());
    await whileFlanneldSays(waiting, async () => {
      const { code, details } = await ask();
      assert.deepEqual([code, details], [50, 'flanneld says: node "n1" pod cidr not assigned']);
    });
    writeFileSync(
      subnetFile,
      'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_MTU=9\nFLANNEL_IPMASQ=x',
    );
    await whileFlanneldSays(waiting, async () => {
      const { code, msg, details } = await ask();
      assert.deepEqual([code, msg], [51, 'flanneld is not ready']);
      assert.equal(details, 'flanneld says: node "n1" pod cidr not assigned');
    });
    for (const answer of ['{"ready":true,"reason":null}', 'not JSON', '']) {
      await whileFlanneldSays(answer, async () => {
        const { code, msg } = await ask();
        assert.deepEqual([code, msg], [50, `failed to find plugin "bridge" in path [${folder}]`]);
      });
    }
    rmSync(subnetFile);
  });
});
