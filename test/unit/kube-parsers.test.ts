import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ItemParser } from '../../src/subnet/kube/item-parser.js';
import { LineParser } from '../../src/subnet/kube/line-parser.js';

/** `text` as bytes, cut at these places. */
function cut(text: string, places: readonly number[]): Buffer[] {
  const bytes = Buffer.from(text);
  const ends = [...places.map((place) => place % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  return ends.map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end));
}

const places = fc.array(fc.nat(5000), { maxLength: 20 });

describe('a list that arrives in pieces', () => {
  const read = (chunks: readonly Buffer[]) => {
    const items: unknown[] = [];
    const parser = new ItemParser((item) => items.push(item));
    for (const chunk of chunks) parser.push(chunk);
    return { items, rest: parser.end() };
  };

  test('gives its items and the rest, however it was cut', () => {
    const item = fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue());
    const list = fc.record({ kind: fc.string(), items: fc.array(item), metadata: fc.jsonValue() });
    fc.assert(
      fc.property(list, places, fc.constantFrom(0, 2), (document, at, indent) => {
        const { items, rest } = read(cut(JSON.stringify(document, null, indent), at));
        assert.deepEqual(items, JSON.parse(JSON.stringify(document.items)));
        assert.deepEqual(rest, JSON.parse(JSON.stringify({ ...document, items: [] })));
      }),
    );
  });

  test('looks for no other list', () => {
    const { items, rest } = read([
      Buffer.from('{"a":["items"],"x":{"items":[{"b":1}]},"items":[{"c":[{}]}]}'),
    ]);
    assert.deepEqual(items, [{ c: [{}] }]);
    assert.deepEqual(rest, { a: ['items'], x: { items: [{ b: 1 }] }, items: [] });
  });

  test('may have no items', () => {
    for (const text of ['{"items":null,"metadata":{}}', '{"metadata":{},"items":[]}', '{"metadata":{}}']) {
      assert.deepEqual(read([Buffer.from(text)]).items, []);
    }
  });

  test('is an error when it ends too early or is none', () => {
    for (const text of [
      '{"items":[{"a":1}',
      '{"items":[{"a":1},',
      '{"items":"',
      '',
      '{"items":[{"a"}]}',
      '{}}',
    ]) {
      assert.throws(() => read([Buffer.from(text)]), SyntaxError, text);
    }
  });

  test('keeps nothing of items that are done', () => {
    const one = JSON.stringify({ text: 'x'.repeat(10_000) });
    let count = 0;
    const parser = new ItemParser(() => count++);
    parser.push(Buffer.from('{"items":['));
    const before = process.memoryUsage().heapUsed + process.memoryUsage().external;
    for (let i = 0; i < 20_000; i++) parser.push(Buffer.from(`${i === 0 ? '' : ','}${one}`));
    parser.push(Buffer.from(']}'));
    parser.end();
    assert.equal(count, 20_000);
    // 200 MB went through.
    assert.ok(process.memoryUsage().heapUsed + process.memoryUsage().external - before < 100 << 20);
  });
});

describe('lines that arrive in pieces', () => {
  test('come out whole, however they were cut', () => {
    const line = fc
      .string({ unit: 'binary', minLength: 1 })
      .filter((text) => !/[\n\r]/.test(text) && text.trim() !== '');
    fc.assert(
      fc.property(fc.array(line), places, (lines, at) => {
        const parser = new LineParser(1 << 20);
        const text = lines.map((one) => `${one}\n`).join('');
        assert.deepEqual(
          cut(text, at).flatMap((chunk) => parser.push(chunk)),
          lines.map((one) => Buffer.from(one).toString()),
        );
      }),
    );
  });

  test('may be long, up to a limit', () => {
    const parser = new LineParser(10_000_000);
    const piece = Buffer.from('x'.repeat(100_000));
    for (let i = 0; i < 100; i++) assert.deepEqual(parser.push(piece), []);
    assert.equal(parser.push(Buffer.from('\n\ny\nz'))[0]?.length, 10_000_000);
    assert.deepEqual(parser.push(Buffer.from('\n')), ['z']);
    for (let i = 0; i < 100; i++) parser.push(piece);
    assert.throws(() => parser.push(piece), RangeError);
  });
});
