/** Interfaces to choose from, and tables of what is chosen. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { describeAddress, selectInterface } from '../../src/iface/external-interface.js';
import type { ExternalInterface, InterfaceChoice, Stack } from '../../src/iface/external-interface.js';
import { surveyHost } from '../../src/iface/survey.js';
import { formatIp4 } from '../../src/ip.js';
import { NO_CHOICE } from './host-network.js';
import { captureLog } from './store.js';

export const V4: Stack = { enableIPv4: true, enableIPv6: false };
export const V6: Stack = { enableIPv4: false, enableIPv6: true };
export const DUAL: Stack = { enableIPv4: true, enableIPv6: true };

/**
 * Links of both ends of a cable, in this process's own namespace, which is the lab's. The far end first: then the near
 * one has its carrier when it comes up, and its link-local address at once instead of some time later.
 */
export const cable = (name: string, ...options: readonly string[]) => [
  `link add ${name} ${options.join(' ')} type veth peer name ${name}-far`,
  `link set ${name}-far up`,
  `link set ${name} up`,
];
const LINKS = ['eth0', 'eth1', 'wg0'];
export const TWO = [
  ...cable('eth0'),
  ...cable('eth1', 'mtu', '1400'),
  'address add 192.168.77.1/24 dev eth0',
  'address add 192.168.78.1/24 dev eth1',
  'address add fd77::1/64 dev eth0 nodad',
  'address add fd78::1/64 dev eth1 nodad',
];
export const DEFAULT = ['route add default via 192.168.77.254', 'route add default via fd77::254'];

export function ip(lines: readonly string[]): void {
  const { status, stderr } = spawnSync('ip', ['-batch', '-'], { input: lines.join('\n'), encoding: 'utf8' });
  assert.equal(status, 0, `${stderr}\n${lines.join('\n')}`);
}

export function select(given: Partial<InterfaceChoice>, stack: Stack): ExternalInterface {
  const choice = { ...NO_CHOICE, ...given };
  return selectInterface(choice, surveyHost(choice, stack), stack);
}

/** `name addresses public-addresses mtu`, or why there is none. */
export function told(found: () => ExternalInterface): string {
  try {
    const external = found();
    const { name, mtu, publicIp, publicIpV6 } = external;
    const announced = [publicIp === null ? [] : formatIp4(publicIp), publicIpV6 ?? []].flat().join(' and ');
    return `${name} ${describeAddress(external)} ${announced} ${mtu}`;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Before and after each test. */
export function clear(): void {
  for (const name of LINKS) spawnSync('ip', ['link', 'delete', name]);
  for (const type of ['unreachable', 'prohibit']) spawnSync('ip', ['route', 'flush', 'type', type]);
}

export interface Case {
  readonly host: readonly string[];
  readonly choice?: Partial<InterfaceChoice>;
  readonly stack?: Stack;
  readonly expected: string | RegExp;
}

export function table(cases: Readonly<Record<string, Case>>): void {
  for (const [name, { host, choice = {}, stack = V4, expected }] of Object.entries(cases)) {
    test(name, () => {
      const lines = captureLog();
      ip(host);
      const result = told(() => select(choice, stack));
      if (typeof expected === 'string') assert.equal(result, expected, lines.join('\n'));
      else assert.match(result, expected);
    });
  }
}
