import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import { ENV_WORDS, soup } from '../lib/soup.js';
import { FlannelError } from '../../src/errors.js';
import { Cidr4 } from '../../src/ip.js';
import { Cidr6 } from '../../src/ip6.js';
import { configureLog } from '../../src/log.js';
import { formatSubnetFile, readPreviousSubnets, writeSubnetFile } from '../../src/subnet/subnet-file.js';
import { SubnetFileWriter } from '../../src/subnet/subnet-file-writer.js';
import { eventually } from '../lib/eventually.js';

const CONTENT = {
  v4: { network: new Cidr4(0x0a050000, 16), subnet: new Cidr4(0x0a054800, 24) },
  v6: null,
  mtu: 1472,
  ipMasq: false,
};
const TEXT =
  'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n';

let directory = '';
let logged: string[] = [];

before(() => {
  directory = mkdtempSync(join(tmpdir(), 'subnet-file-'));
});
after(() => {
  rmSync(directory, { recursive: true });
});
beforeEach(() => {
  logged = [];
  configureLog({ write: (line) => logged.push(line) });
});
afterEach(() => {
  for (const name of readdirSync(directory)) rmSync(join(directory, name), { recursive: true });
});

describe('formatSubnetFile', () => {
  test('the text', () => {
    assert.equal(formatSubnetFile(CONTENT), TEXT);
    assert.match(formatSubnetFile({ ...CONTENT, ipMasq: true }), /\nFLANNEL_IPMASQ=true\n$/);
  });

  test('the subnet is named by its first usable address, the network by its first', () => {
    const text = formatSubnetFile({
      ...CONTENT,
      v4: { network: new Cidr4(0x0a050709, 16), subnet: new Cidr4(0x0a0548fe, 30) },
    });
    assert.match(text, /^FLANNEL_NETWORK=10\.5\.0\.0\/16\nFLANNEL_SUBNET=10\.5\.72\.253\/30\n/);
  });

  test('with IPv6, and with nothing else', () => {
    const v6 = { network: new Cidr6('fd00:5::9', 48), subnet: new Cidr6('fd00:5:0:72::', 64) };
    const lines = 'FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:72::1/64\n';
    const [both, alone] = [
      formatSubnetFile({ ...CONTENT, v6 }),
      formatSubnetFile({ ...CONTENT, v4: null, v6 }),
    ];
    assert.equal(both, TEXT.replace('FLANNEL_MTU', `${lines}FLANNEL_MTU`));
    assert.equal(alone, `${lines}FLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n`);
  });
});

describe('writeSubnetFile', () => {
  test('makes the directory and leaves nothing else there, whatever the umask', async () => {
    const path = join(directory, 'run', 'flannel', 'subnet.env');
    const umask = process.umask(0o077);
    try {
      await writeSubnetFile(path, CONTENT);
    } finally {
      process.umask(umask);
    }
    assert.equal(readFileSync(path, 'utf8'), TEXT);
    assert.equal(statSync(path).mode & 0o7777, 0o644);
    assert.deepEqual(readdirSync(join(directory, 'run', 'flannel')), ['subnet.env']);
  });

  test('the directory is open to readers under the usual umask', async () => {
    const umask = process.umask(0o022);
    try {
      await writeSubnetFile(join(directory, 'new', 'subnet.env'), CONTENT);
    } finally {
      process.umask(umask);
    }
    assert.equal(statSync(join(directory, 'new')).mode & 0o777, 0o755);
  });

  test('replaces, rather than rewrites, a former file', async () => {
    const path = join(directory, 'subnet.env');
    writeFileSync(path, 'old');
    chmodSync(path, 0o400);
    const { ino } = statSync(path);
    await writeSubnetFile(path, CONTENT);
    assert.equal(readFileSync(path, 'utf8'), TEXT);
    assert.notEqual(statSync(path).ino, ino);
    assert.equal(statSync(path).mode & 0o777, 0o644);
  });

  test('a failure names the file and leaves no temporary behind', async () => {
    const path = join(directory, 'subnet.env');
    mkdirSync(join(path, 'in-the-way'), { recursive: true });
    await assert.rejects(writeSubnetFile(path, CONTENT), (error: Error) => {
      assert(error instanceof FlannelError);
      assert(error.message.startsWith(`cannot write the subnet file ${path}: `), error.message);
      assert.match(error.message, /--subnet-file$/);
      return true;
    });
    assert.deepEqual(readdirSync(directory), ['subnet.env']);
  });

  test('a directory that cannot be made', async () => {
    writeFileSync(join(directory, 'file'), '');
    await assert.rejects(writeSubnetFile(join(directory, 'file', 'subnet.env'), CONTENT), FlannelError);
  });
});

describe('SubnetFileWriter', () => {
  const RETRY_MS = 20;

  test('repeats what failed at its pace, says so once, and stops when it works', async () => {
    const path = join(directory, 'subnet.env');
    mkdirSync(path);
    let attempts = 0;
    const content = () => {
      attempts++;
      return CONTENT;
    };
    const writer = new SubnetFileWriter(path, content, RETRY_MS);
    const end = new AbortController();
    const running = writer.run(end.signal);
    const started = performance.now();
    await writer.write();
    assert.match(writer.status.error ?? '', /EISDIR/);
    await eventually(() => {
      assert.ok(attempts >= 5);
    });
    // The first is at once; the ring of its failure may bring a second one before the pace is kept.
    assert.ok((attempts - 2) * RETRY_MS <= performance.now() - started, `${attempts} attempts`);
    rmSync(path, { recursive: true });
    await eventually(() => {
      assert.equal(writer.status.error, null);
    });
    assert.equal(readFileSync(path, 'utf8'), TEXT);
    const enough = attempts;
    await new Promise((resolve) => setTimeout(resolve, 5 * RETRY_MS));
    assert.equal(attempts, enough);
    end.abort();
    await running;
    assert.equal(logged.filter((line) => line.includes('Failed to write')).length, 1, logged.join(''));
  });
});

describe('readPreviousSubnets', () => {
  test('gives what was written of IPv6, in network form', async () => {
    const path = join(directory, 'subnet.env');
    const v6 = { network: new Cidr6('fd00:5::', 48), subnet: new Cidr6('fd00:5:0:72::', 64) };
    await writeSubnetFile(path, { ...CONTENT, v6 });
    const { v4, v6: read } = readPreviousSubnets(path);
    assert.deepEqual([v4?.toString(), read?.toString()], ['10.5.72.0/24', 'fd00:5:0:72::/64']);
    writeFileSync(path, 'FLANNEL_IPV6_SUBNET=fd00:5:0:72::1/64,10.5.72.1/24,fd00:5:0:73::1/64');
    assert.equal(readPreviousSubnets(path).v6, null, 'two of them');
    assert.match(logged.join(''), /expected an IPv6 CIDR; skipped/);
  });

  function read(text: string | Buffer): string | undefined {
    const path = join(directory, 'subnet.env');
    writeFileSync(path, text);
    return readPreviousSubnets(path).v4?.toString();
  }

  test('reads back what was written', async () => {
    const path = join(directory, 'subnet.env');
    await writeSubnetFile(path, CONTENT);
    assert.equal(readPreviousSubnets(path).v4?.toString(), '10.5.72.0/24');
    assert.equal(logged.length, 0);
  });

  const readable = [
    'FLANNEL_SUBNET=10.5.72.1/24',
    '# comment\n\nexport FLANNEL_SUBNET=10.5.72.1/24 # mine\r\n',
    'FLANNEL_SUBNET="10.5.72.1/24"',
    "FLANNEL_SUBNET='10.5.72.1/24' # mine",
    'FLANNEL_SUBNET: 10.5.72.1/24',
    '  FLANNEL_SUBNET = 10.5.72.1/24  ',
    'FLANNEL_SUBNET=1.0.0.1/8\nFLANNEL_SUBNET=10.5.72.1/24\n#FLANNEL_SUBNET=2.0.0.1/8\n',
    'FLANNEL_SUBNET=10.5.72.1/24,',
    'what is this\n=\n"\nFLANNEL_SUBNET=10.5.72.1/24\n\u0000',
  ];
  for (const text of readable) {
    test(`reads ${JSON.stringify(text)}`, () => {
      assert.equal(read(text), '10.5.72.0/24');
      assert.equal(logged.length, 0);
    });
  }

  test('bad elements are skipped and logged', () => {
    assert.equal(read('FLANNEL_SUBNET=bad,10.5.72.1/24,10.5.300.1/24,fd00::1/64'), '10.5.72.0/24');
    assert.equal(logged.length, 3);
    assert.match(
      logged[0] ?? '',
      /^E.*subnet-file\.ts:\d+\] FLANNEL_SUBNET in .* has "bad", expected an IPv4 CIDR; skipped\n$/,
    );
  });

  test('none, only bad ones, or several: no previous subnet', () => {
    for (const text of [
      '',
      'FLANNEL_SUBNET=',
      'FLANNEL_MTU=1472',
      '# FLANNEL_SUBNET=10.5.72.1/24',
      'XFLANNEL_SUBNET=10.5.72.1/24',
    ]) {
      assert.equal(read(text), undefined, text);
    }
    assert.equal(logged.length, 0);
    assert.equal(read('FLANNEL_SUBNET=x,y'), undefined);
    assert.equal(read('FLANNEL_SUBNET="10.5.72.1/24'), undefined);
    assert.equal(read('FLANNEL_SUBNET=10.5.72.1/24,10.5.73.1/24'), undefined);
    assert.match(logged.join(''), /^W.* names 2 subnets, expected one/m);
  });

  test('a missing file is silent, an unreadable one is logged', () => {
    assert.deepEqual(readPreviousSubnets(join(directory, 'missing', 'subnet.env')), { v4: null, v6: null });
    assert.equal(logged.length, 0);
    assert.equal(readPreviousSubnets(directory).v4, null);
    assert.equal(readPreviousSubnets('a\u0000b').v4, null);
    assert.equal(logged.length, 2);
  });

  test('garbage is never an error', () => {
    fc.assert(
      fc.property(fc.oneof(soup(...ENV_WORDS), fc.uint8Array()), (content) => {
        read(typeof content === 'string' ? content : Buffer.from(content));
      }),
      { numRuns: 300 },
    );
  });
});
