import assert from 'node:assert/strict';
import { test } from 'node:test';

test('the package is the forwarder, by its own name', async () => {
  const library = await import('flannel-udp');
  assert.equal(typeof library.Dataplane, 'function');
  assert.ok(library.counters.some((counter) => counter.name === 'encap_packets_in'));
  assert.equal(library.Cidr4.parse('10.5.1.0/24')?.toString(), '10.5.1.0/24');
});
