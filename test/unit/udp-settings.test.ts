import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hostStack, readUdpSettings } from '../../src/backend/udp-settings.js';
import { createUdpBackend } from '../../src/backend/udp.js';
import type { UdpSettings } from '../../src/backend/udp-settings.js';
import { parseNetworkConfig } from '../../src/config.js';
import { FlannelError } from '../../src/errors.js';
import { parseFlags } from '../../src/flags.js';

const command = parseFlags([], {});
assert(command.kind === 'run');
const { options } = command;

function settingsOf(backend: Readonly<Record<string, unknown>>): UdpSettings {
  const config = { Network: '10.244.0.0/16', Backend: { Type: 'udp', ...backend } };
  return readUdpSettings(parseNetworkConfig(JSON.stringify(config)), { ...options, controlSocket: 'none' });
}

describe('the Backend object', () => {
  test('is checked for peers where it says nothing', () => {
    assert.equal(settingsOf({}).dataplane.sourceCheck, 'peer');
  });

  test('names the source check', () => {
    for (const sourceCheck of ['peer', 'subnet', 'none']) {
      assert.equal(settingsOf({ SourceCheck: sourceCheck }).dataplane.sourceCheck, sourceCheck);
    }
    assert.equal(settingsOf({ sourcecheck: 'none' }).dataplane.sourceCheck, 'none', 'as Go reads keys');
  });

  test('has an MTU where it says so', () => {
    assert.equal(settingsOf({}).mtu, null);
    assert.equal(settingsOf({ MTU: 0 }).mtu, null);
    for (const mtu of [68, 1400, 65507]) assert.equal(settingsOf({ MTU: mtu }).mtu, mtu);
    for (const mtu of [1, 67, 65508]) {
      assert.throws(() => settingsOf({ MTU: mtu }), /udp backend config: MTU \d+ must be from 68 to 65507/i);
    }
    for (const mtu of ['1400', -1, 14.5]) {
      assert.throws(() => settingsOf({ MTU: mtu }), /MTU is .*, expected a number of bytes such as 1400/);
    }
  });

  for (const key of ['ClampMSS', 'ProbeMTU']) {
    test(`asks for ${key} with true alone`, () => {
      const asked = (backend: Readonly<Record<string, unknown>>) => {
        const { clampMss, dataplane } = settingsOf(backend);
        return key === 'ClampMSS' ? clampMss : dataplane.probeMtu;
      };
      assert.equal(asked({}), false);
      assert.equal(asked({ [key]: false }), false);
      assert.equal(asked({ [key]: true }), true);
      assert.equal(asked({ [key.toLowerCase()]: true }), true, 'as Go reads keys');
      const other = key === 'ClampMSS' ? 'ProbeMTU' : 'ClampMSS';
      assert.equal(asked({ [other]: true }), false);
      for (const wrong of [1, 'true', {}]) {
        assert.throws(
          () => settingsOf({ [key]: wrong }),
          new RegExp(`udp backend config: ${key} is .*, expected true or false`, 'i'),
        );
      }
    });
  }

  test('lets a host announce that it probes, and nothing where it does not', () => {
    const announced = (backend: object, udpPort: number) => {
      const config = parseNetworkConfig(JSON.stringify({ Network: '10.244.0.0/16', Backend: backend }));
      const ips = { address: 0xc0a84d01, addressV6: null, publicIp: 0xc0a84d01, publicIpV6: null };
      const external = { index: 2, linkIndex: 2, name: 'eth0', mtu: 1500, chosenBy: 'test', ...ips };
      return createUdpBackend(config, external, { ...options, controlSocket: 'none', udpPort }).attrs
        .backendData;
    };
    assert.equal(announced({ Type: 'udp' }, 0), null);
    assert.equal(announced({ Type: 'udp', ProbeMTU: true }, 0), '{"ProbeMTU":true}');
    assert.equal(announced({ Type: 'udp', ProbeMTU: true }, 9001), '{"Port":9001,"ProbeMTU":true}');
    assert.equal(announced({ Type: 'udp', ClampMSS: true }, 9001), '{"Port":9001}');
  });

  test('is refused with what it should say', () => {
    for (const wrong of ['off', 'Peer', '', true, 1]) {
      assert.throws(
        () => settingsOf({ SourceCheck: wrong }),
        (error) =>
          error instanceof FlannelError &&
          error.message.includes('SourceCheck is') &&
          error.message.includes('expected "peer", "subnet" or "none"'),
      );
    }
  });
});

describe('the family of the datagrams', () => {
  const config = (enableIPv4: boolean, enableIPv6: boolean, backend: object = {}) => ({
    ...parseNetworkConfig('{"Network":"10.244.0.0/16"}'),
    enableIPv4,
    enableIPv6,
    backend: JSON.stringify({ Type: 'udp', ...backend }),
  });
  const quiet = { ...options, controlSocket: 'none' };

  test('is IPv4 wherever the network has that, unless the config says otherwise', () => {
    assert.equal(readUdpSettings(config(true, true), quiet).underlay, 'ipv4');
    assert.equal(readUdpSettings(config(false, true), quiet).underlay, 'ipv6');
    assert.equal(readUdpSettings(config(true, false, { Underlay: 'ipv6' }), quiet).underlay, 'ipv6');
    assert.throws(
      () => readUdpSettings(config(false, true, { Underlay: 'ipv4' }), quiet),
      /Underlay is "ipv4", but EnableIPv4 is false: leave it out, or set it to "ipv6"/,
    );
    assert.throws(() => readUdpSettings(config(true, true, { Underlay: 6 }), quiet), /"ipv4" or "ipv6"/);
  });

  test('is one that hosts need an address of', () => {
    assert.deepEqual(hostStack(config(true, false)), { enableIPv4: true, enableIPv6: false });
    const over6 = hostStack(config(true, false, { Underlay: 'ipv6' }));
    assert.deepEqual(over6, { enableIPv4: true, enableIPv6: true });
  });

  test('does not change that IPv6 inside needs an MTU of 1280', () => {
    assert.equal(readUdpSettings(config(true, true, { MTU: 1280 }), quiet).mtu, 1280);
    assert.throws(
      () => readUdpSettings(config(true, true, { MTU: 1279 }), quiet),
      /MTU 1279 must be from 1280/,
    );
  });
});
