import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  compactJson,
  decodeField,
  fields,
  parseJson,
  parseJsonObject,
  readString,
} from '../../src/gojson.js';
import { FlannelError } from '../../src/errors.js';
import { JSON_WORDS, soup } from '../lib/soup.js';

/** What JSON.parse makes of the same document. */
function plain(value: ReturnType<typeof parseJson>): unknown {
  switch (value.kind) {
    case 'null':
      return null;
    case 'number':
      return Number(value.raw);
    case 'bool':
    case 'string':
      return value.value;
    case 'array':
      return value.items.map(plain);
    case 'object':
      return Object.fromEntries(value.members.map((member) => [member.name, plain(member.value)]));
  }
}

describe('parseJson', () => {
  test('keeps the text of every value', () => {
    const text = ' { "a" : 24.0 , "b" : [ 1e2, "x" ] , "a" : {"c" : null} } ';
    const json = parseJson(text);
    assert.equal(json.raw, text.trim());
    assert(json.kind === 'object');
    assert.deepEqual(
      json.members.map(({ name, value }) => [name, value.raw]),
      [
        ['a', '24.0'],
        ['b', '[ 1e2, "x" ]'],
        ['a', '{"c" : null}'],
      ],
    );
  });

  test('reads what JSON.parse reads', () => {
    fc.assert(
      fc.property(fc.json(), fc.constantFrom('', ' ', '\t\r\n'), (text, space) => {
        const expected: unknown = JSON.parse(text);
        // JSON.stringify forgets the sign of -0 and the prototype of __proto__; both sides go through it.
        assert.equal(JSON.stringify(plain(parseJson(space + text + space))), JSON.stringify(expected));
      }),
    );
  });

  test('accepts exactly what JSON.parse accepts, and otherwise throws a FlannelError', () => {
    fc.assert(
      fc.property(fc.oneof(soup(...JSON_WORDS), fc.string({ unit: 'binary' })), (text) => {
        let valid = true;
        try {
          JSON.parse(text);
        } catch {
          valid = false;
        }
        if (valid) parseJson(text);
        else assert.throws(() => parseJson(text), FlannelError);
      }),
      { numRuns: 2000 },
    );
  });

  test('rejects, naming the position', () => {
    const rejected: [string, string][] = [
      ['', 'line 1, column 1: found the end of the text, expected a value'],
      ['{}x', 'line 1, column 3: found "x", expected the end of the text'],
      ['{} {}', 'line 1, column 4: found "{", expected the end of the text'],
      ['[1,]', 'line 1, column 4: found "]", expected a value'],
      ['{"a":1,}', 'line 1, column 8: found "}", expected a member name in double quotes'],
      ['{\n  "a" 1}', 'line 2, column 7: found "1", expected ":"'],
      ['[1 2]', 'line 1, column 4: found "2", expected "," or "]"'],
      ['// no', 'line 1, column 1: found "/", expected a value'],
      ['"\n"', 'line 1, column 2: found "\\n", expected a closing quote'],
      ['"a', 'line 1, column 3: found the end of the text, expected a closing quote'],
      ['"\\x"', 'line 1, column 2: found "\\\\", expected a JSON escape sequence'],
      ['\ufeff{}', 'line 1, column 1: found "\ufeff", expected a value'],
      ['01', 'line 1, column 2: found "1", expected the end of the text'],
    ];
    for (const [text, message] of rejected) {
      assert.throws(
        () => parseJson(text),
        (error: Error) => error instanceof FlannelError && error.message.includes(message),
        text,
      );
    }
  });

  test('nests as deep as Go allows and no deeper', () => {
    const nested = (depth: number) => '[{"a":'.repeat(depth / 2) + '1' + '}]'.repeat(depth / 2);
    parseJson(nested(10_000));
    assert.throws(() => parseJson(nested(10_002)), /at most 10000 levels/);
    assert.throws(() => parseJson('['.repeat(2_000_000)), /at most 10000 levels/);
  });

  test('replaces halves of surrogate pairs', () => {
    const json = parseJson('"\\ud800x\\ud83d\\ude00\\udc00"');
    assert.equal(json.kind === 'string' && json.value, '\ufffdx\u{1f600}\ufffd');
  });
});

describe('fields', () => {
  test('match in any case, in their order', () => {
    const object = parseJsonObject('{"type":1,"TYPE":2,"typ":3,"Type":4,"tYpE":5}', 'x');
    assert.deepEqual(
      fields(object, 'Type').map((value) => value.raw),
      ['1', '2', '4', '5'],
    );
  });

  test('match under the two folds from outside ASCII, and no others', () => {
    const object = parseJsonObject('{"\u017fubnetMin":1,"Bac\u212aend":2,"\u0131d":3}', 'x');
    assert.equal(fields(object, 'SubnetMin').length, 1);
    assert.equal(fields(object, 'Backend').length, 1);
    assert.equal(fields(object, 'id').length, 0);
  });

  test('decode: the last one counts, null changes nothing, none may be wrong', () => {
    const decode = (text: string) =>
      decodeField(parseJsonObject(text, 'x'), 'Type', 'unset', readString, 'a string');
    assert.equal(decode('{}'), 'unset');
    assert.equal(decode('{"type":"a","TYPE":"b"}'), 'b');
    assert.equal(decode('{"type":"a","TYPE":null}'), 'a');
    assert.throws(
      () => decode('{"type": [1, 2],"TYPE":"b"}'),
      /^FlannelError: Type is \[1,2\], expected a string$/,
    );
  });

  test('a null document is one without members; others are refused', () => {
    assert.deepEqual(parseJsonObject('null', 'x').members, []);
    assert.throws(
      () => parseJsonObject('[]', 'the text'),
      /the text is of type array, expected a JSON object/,
    );
  });
});

describe('compactJson', () => {
  test('drops white space outside strings and escapes what json.Marshal escapes', () => {
    assert.equal(
      compactJson(' { "a b" : [ 1 ,\t2.0 ] ,\n"c\\" :" : "<x> & \u2028\u2029 \\u003C" } '),
      '{"a b":[1,2.0],"c\\" :":"\\u003cx\\u003e \\u0026 \\u2028\\u2029 \\u003C"}',
    );
  });

  test('rejects what is not one value', () => {
    assert.throws(() => compactJson('{'), FlannelError);
    assert.throws(() => compactJson('1 2'), FlannelError);
  });

  test('keeps the meaning and is idempotent', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const compact = compactJson(JSON.stringify(value, null, 3));
        assert.equal(JSON.stringify(JSON.parse(compact)), JSON.stringify(value));
        assert.equal(compactJson(compact), compact);
      }),
    );
  });
});
