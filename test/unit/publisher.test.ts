import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TablePublisher } from '../../src/lease/publisher.js';
import { TestClock } from '../lib/clock.js';

describe('TablePublisher', () => {
  test('publishes a change that comes alone at once, and nothing without one', async () => {
    const { publisher, clock, published, stop } = start(5);
    await clock.pass(1_000);
    assert.deepEqual(published, []);
    publisher.request();
    await clock.pass(0);
    assert.deepEqual(published, [1_000]);
    await clock.pass(1_000);
    assert.deepEqual(published, [1_000]);
    await stop();
  });

  test('takes changes together that come together or while it is busy, and misses none', async () => {
    const { publisher, clock, published, stop } = start(5);
    for (let i = 0; i < 10; i++) publisher.request();
    await clock.pass(0);
    assert.equal(published.length, 1);
    for (let i = 0; i < 10; i++) publisher.request(); // In the pause after the first.
    await clock.pass(4);
    assert.equal(published.length, 1);
    await clock.pass(2);
    assert.equal(published.length, 2);
    await stop();
  });

  test('spends no more than half of the time on publishing', async () => {
    const { publisher, clock, published, stop } = start(5);
    for (let ms = 0; ms < 1_000; ms++) {
      publisher.request();
      await clock.pass(1);
    }
    // Publishing takes 5 ms of the clock's time each.
    assert.ok(published.length >= 90 && published.length <= 201, `${published.length} times`);
    await stop();
  });

  test('ends with what the table throws', async () => {
    const failing = new TablePublisher(() => {
      throw new Error('no table');
    });
    failing.request();
    await assert.rejects(failing.run(new AbortController().signal), /no table/);
  });

  test('ends with its signal, idle or in a pause', async () => {
    const idle = start(5);
    await idle.stop();
    const pausing = start(5);
    pausing.publisher.request();
    await pausing.clock.pass(0);
    await pausing.stop();
    assert.equal(pausing.published.length, 1);
  });
});

/** A running publisher whose `publish` takes `ms` of the clock's time. */
function start(ms: number) {
  const clock = new TestClock();
  const published: number[] = [];
  const publisher = new TablePublisher(() => {
    published.push(clock.monotonicMs());
    clock.advance(ms);
  }, clock);
  const controller = new AbortController();
  const running = publisher.run(controller.signal);
  const stop = async (): Promise<void> => {
    controller.abort();
    await running;
  };
  return { publisher, clock, published, stop };
}
