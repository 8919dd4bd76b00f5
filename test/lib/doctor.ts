/** flanneld doctor on hosts to whom something is done. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { FLANNELD } from '../../bench/daemon.js';
import type { Daemon } from '../../bench/daemon.js';
import type { Finding } from '../../src/doctor/finding.js';
import { TestNetwork } from './network.js';

/** Three healthy hosts, of which the first two run flanneld. */
export async function healthyHosts(): Promise<{ network: TestNetwork; daemons: Daemon[] }> {
  const network = await TestNetwork.create(3);
  for (const host of network.topology.hosts) {
    await host.exec('sh', '-ec', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
  }
  const daemons = [network.start(1), network.start(2)];
  for (const daemon of daemons) await daemon.ready(1);
  return { network, daemons };
}

export interface Result {
  readonly status: number | null;
  readonly findings: readonly Finding[];
  readonly stderr: string;
}

export async function run(
  network: TestNetwork,
  host: number,
  flags: readonly string[],
  wrapper: readonly string[] = [],
): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const store = flags.some((flag) => /^--(?:subnet-dir|etcd-endpoints)=/.test(flag));
  const all = [
    `--subnet-file=${join(network.folder, `host${host}.env`)}`,
    ...(store ? [] : [`--subnet-dir=${network.store}`]),
    ...flags,
  ];
  const command = [...wrapper, process.execPath, FLANNELD, 'doctor', ...all];
  const child = network.host(host).spawn(command[0] ?? '', command.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  await once(child, 'close');
  return { status: child.exitCode, stdout, stderr };
}

export async function examine(
  network: TestNetwork,
  host: number,
  flags: readonly string[] = [],
  wrapper?: readonly string[],
): Promise<Result> {
  const { status, stdout, stderr } = await run(network, host, ['--json', ...flags], wrapper);
  const { checks } = JSON.parse(stdout) as { checks: Finding[] };
  return { status, findings: checks, stderr };
}

export const faultsOf = (findings: readonly Finding[]) =>
  findings.filter(({ status }) => status === 'warning' || status === 'error');

export interface Fault {
  readonly host?: number;
  readonly flags?: () => readonly string[];
  readonly wrapper?: () => readonly string[] | Promise<readonly string[]>;
  /** Shell lines that make it on the host, and that take it away. */
  readonly make?: string;
  readonly mend?: string;
  /** The same for what is no shell line. */
  readonly before?: () => unknown;
  readonly after?: () => unknown;
  /** What is found: the check, how bad it is, words of the finding and of the remedy. */
  readonly expected: readonly [string, 'warning' | 'error', RegExp, RegExp];
}

/** Each fault is found by its check and no other, and nothing is found once it is mended. */
export function table(networkOf: () => TestNetwork, faults: Readonly<Record<string, Fault>>): void {
  for (const [name, fault] of Object.entries(faults)) {
    test(name, async () => {
      const network = networkOf();
      const number = fault.host ?? 3;
      const host = network.host(number);
      if (fault.make !== undefined) await host.exec('sh', '-ec', fault.make);
      try {
        await fault.before?.();
        const { status, findings } = await examine(network, number, fault.flags?.(), await fault.wrapper?.());
        const [id, severity, found, remedy] = fault.expected;
        const shown = JSON.stringify(findings, null, 1);
        const faults = faultsOf(findings);
        assert.deepEqual([...new Set(faults.map((each) => each.id))], [id], shown);
        const match = faults.find((each) => each.status === severity && found.test(each.found));
        assert.ok(match, shown);
        assert.match(match.remedy ?? '', remedy);
        assert.ok((match.why ?? '').length > 10, shown);
        assert.equal(status, severity === 'error' ? 4 : 3);
      } finally {
        await fault.after?.();
        if (fault.mend !== undefined) await host.exec('sh', '-ec', fault.mend);
      }
    });
  }
}
