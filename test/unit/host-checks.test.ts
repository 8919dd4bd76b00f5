import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { configureLog } from '../../src/log.js';
import { warnWithoutForwarding } from '../../src/traffic/host-checks.js';

const V4 = 'net/ipv4/ip_forward';
const V6 = 'net/ipv6/conf/all/forwarding';

let logged: string[] = [];
beforeEach(() => {
  logged = [];
  configureLog({ write: (line) => logged.push(line) });
});

/** The settings that are named on a host where these are 0, are missing, or are 1 as all others. */
function named(enableIPv4: boolean, enableIPv6: boolean, off: readonly string[], missing = ''): string[] {
  const read = (path: string) => (path === missing ? null : Number(!off.includes(path)));
  warnWithoutForwarding({ enableIPv4, enableIPv6 }, read);
  return logged.map((line) => /^W.* `sysctl -w (\S+)=1`$/m.exec(line)?.[1] ?? line);
}

test('a host that forwards the families of the network is silent', () => {
  assert.deepEqual(named(true, true, []), []);
});

test('IPv6 alone does not need IPv4 to be forwarded', () => {
  assert.deepEqual(named(false, true, [V4]), []);
});

test('IPv4 alone does not need IPv6 to be forwarded', () => {
  assert.deepEqual(named(true, false, [V6]), []);
});

test('both families are looked at in a network of both', () => {
  assert.deepEqual(named(true, true, [V4, V6]), ['net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding']);
});

test('IPv6 that is not forwarded is told in a network of IPv6 alone', () => {
  assert.deepEqual(named(false, true, [V4, V6]), ['net.ipv6.conf.all.forwarding']);
});

test('a kernel without the setting is silent', () => {
  assert.deepEqual(named(true, true, [], V6), []);
});
