/**
 * JSON as Go's encoding/json reads it, for documents that other Go programs read too. It differs from JSON.parse
 * in what is kept: a number's literal (24.0 is not 24 there), repeated members in their order, and the text of
 * every value. Containers are kept on an explicit stack, so no nesting can exhaust the call stack.
 */
import { FlannelError } from './errors.js';

interface JsonText {
  /** The value as written, without the white space around it. */
  readonly raw: string;
}

export interface JsonObject extends JsonText {
  readonly kind: 'object';
  /** All members in their order, repeated names included. */
  readonly members: readonly { readonly name: string; readonly value: JsonValue }[];
}

export type JsonValue =
  | (JsonText & { readonly kind: 'null' | 'number' })
  | (JsonText & { readonly kind: 'bool'; readonly value: boolean })
  | (JsonText & { readonly kind: 'string'; readonly value: string })
  | (JsonText & { readonly kind: 'array'; readonly items: readonly JsonValue[] })
  | JsonObject;

/** As many containers inside one another as encoding/json accepts. */
const MAX_DEPTH = 10_000;

const SPACE = /[ \t\r\n]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const ESCAPE = /\\(?:["\\/bfnrt]|u[\da-fA-F]{4})/y;
const LITERAL = /(?:null|true|false)/y;

/**
 * Reads one JSON document.
 * @throws FlannelError that names the position (line and column from 1, in UTF-16 units) and what was expected.
 */
export function parseJson(text: string): JsonValue {
  return new Reader(text).document();
}

/**
 * Reads a document that Go would decode into a struct: an object, or null, which leaves every field unset.
 * @throws FlannelError, in which `what` names the document.
 */
export function parseJsonObject(text: string, what: string): JsonObject {
  const json = parseJson(text);
  if (json.kind === 'object') return json;
  if (json.kind === 'null') return { kind: 'object', raw: '{}', members: [] };
  throw new FlannelError(`${what} is of type ${json.kind}, expected a JSON object`);
}

/** The values of all members that Go would decode into the field `name`, whatever the case of their names. */
export function fields(object: JsonObject, name: string): JsonValue[] {
  const wanted = fold(name);
  return object.members.filter((member) => fold(member.name) === wanted).map((member) => member.value);
}

/**
 * The text as json.Marshal embeds a RawMessage: without insignificant white space, and with the characters
 * escaped that are unsafe in HTML or JavaScript.
 * @throws FlannelError when `raw` is not one JSON value.
 */
export function compactJson(raw: string): string {
  parseJson(raw);
  let compact = '';
  let from = 0;
  let inString = false;
  for (let at = 0; at < raw.length; at++) {
    const char = raw.charAt(at);
    if (inString && char === '\\') at++;
    else if (char === '"') inString = !inString;
    else if (!inString && ' \t\r\n'.includes(char)) {
      compact += raw.slice(from, at);
      from = at + 1;
    }
  }
  compact += raw.slice(from);
  return compact.replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/**
 * Decodes the field `name` as Go does: each member of that name in turn, so that the last one counts but none may
 * be wrong. `read` gets a member's value and the result so far (`unset` at first, and a null often means to keep
 * it), and returns undefined for a value it cannot use.
 * @throws FlannelError that names the field, its value and what was expected.
 */
export function decodeField<T>(
  object: JsonObject,
  name: string,
  unset: T,
  read: (value: JsonValue, before: T) => T | undefined,
  expected: string,
): T {
  let result = unset;
  for (const value of fields(object, name)) {
    const next = read(value, result);
    if (next === undefined) {
      throw new FlannelError(`${name} is ${compactJson(value.raw).slice(0, 80)}, expected ${expected}`);
    }
    result = next;
  }
  return result;
}

/** Only digits will do: Go reads neither 24.0 nor 2.4e1 into an integer. */
export function readUint(value: JsonValue, before: number): number | undefined {
  if (value.kind === 'null') return before;
  return value.kind === 'number' && /^\d+$/.test(value.raw) ? Number(value.raw) : undefined;
}

/** For `decodeField`: a string; a null changes nothing. */
export function readString(value: JsonValue, before: string): string | undefined {
  if (value.kind === 'null') return before;
  return value.kind === 'string' ? value.value : undefined;
}

/** For `decodeField`: true or false; a null changes nothing. */
export function readBool(value: JsonValue, before: boolean): boolean | undefined {
  if (value.kind === 'null') return before;
  return value.kind === 'bool' ? value.value : undefined;
}

/** Unicode simple folding as far as it can reach ASCII names: beside A-Z that is the long s and the Kelvin sign. */
function fold(name: string): string {
  return name.replaceAll('\u017f', 's').replace(/[A-Z\u212a]/g, (letter) => letter.toLowerCase());
}

interface OpenArray {
  readonly kind: 'array';
  readonly start: number;
  readonly items: JsonValue[];
}

interface OpenObject {
  readonly kind: 'object';
  readonly start: number;
  readonly members: { name: string; value: JsonValue }[];
  /** The name whose value comes next. */
  name: string;
}

class Reader {
  private at = 0;
  private readonly open: (OpenArray | OpenObject)[] = [];

  constructor(private readonly text: string) {}

  document(): JsonValue {
    for (;;) {
      let value = this.begin();
      while (value !== null) {
        const parent = this.open.at(-1);
        if (parent === undefined) {
          if (this.peek() !== '') this.fail('the end of the text');
          return value;
        }
        if (parent.kind === 'array') parent.items.push(value);
        else parent.members.push({ name: parent.name, value });
        value = this.proceed(parent);
      }
    }
  }

  /** A whole scalar or empty container, or null when a container was opened and its first value comes next. */
  private begin(): JsonValue | null {
    const char = this.peek();
    const start = this.at;
    if (char === '[' || char === '{') return this.beginContainer(char);
    if (char === '"') {
      const value = this.string();
      return { kind: 'string', raw: this.text.slice(start, this.at), value };
    }
    const word = this.take(LITERAL);
    if (word === 'null') return { kind: 'null', raw: word };
    if (word !== undefined) return { kind: 'bool', raw: word, value: word === 'true' };
    const number = this.take(NUMBER);
    if (number === undefined) this.fail('a value');
    return { kind: 'number', raw: number };
  }

  private beginContainer(char: '[' | '{'): JsonValue | null {
    if (this.open.length === MAX_DEPTH) this.fail(`at most ${MAX_DEPTH} levels of nesting`);
    const start = this.at++;
    const container: OpenArray | OpenObject =
      char === '[' ? { kind: 'array', start, items: [] } : { kind: 'object', start, members: [], name: '' };
    this.open.push(container);
    if (this.peek() === closerOf(container)) return this.end(container);
    if (container.kind === 'object') this.memberName(container);
    return null;
  }

  /** After a value inside `parent`: the finished parent, or null when a further value comes next. */
  private proceed(parent: OpenArray | OpenObject): JsonValue | null {
    const char = this.peek();
    if (char === closerOf(parent)) return this.end(parent);
    if (char !== ',') this.fail(`"," or "${closerOf(parent)}"`);
    this.at++;
    if (parent.kind === 'object') this.memberName(parent);
    return null;
  }

  private end(container: OpenArray | OpenObject): JsonValue {
    this.at++;
    this.open.pop();
    const raw = this.text.slice(container.start, this.at);
    return container.kind === 'array'
      ? { kind: 'array', raw, items: container.items }
      : { kind: 'object', raw, members: container.members };
  }

  private memberName(object: OpenObject): void {
    if (this.peek() !== '"') this.fail('a member name in double quotes');
    object.name = this.string();
    if (this.peek() !== ':') this.fail('":"');
    this.at++;
  }

  private string(): string {
    const start = this.at++;
    for (let char = this.text.charAt(this.at); char !== '"'; char = this.text.charAt(this.at)) {
      if (char === '\\') {
        if (this.take(ESCAPE) === undefined) this.fail('a JSON escape sequence');
      } else {
        if (char < ' ') this.fail('a closing quote; control characters must be escaped'); // '' at the end, too
        this.at++;
      }
    }
    this.at++;
    const value = JSON.parse(this.text.slice(start, this.at)) as string;
    return value.replace(/\p{Surrogate}/gu, '\ufffd'); // halves of a pair do not exist in Go's UTF-8
  }

  /** The next character that is not white space, or '' at the end. */
  private peek(): string {
    this.take(SPACE);
    return this.text.charAt(this.at);
  }

  private take(token: RegExp): string | undefined {
    token.lastIndex = this.at;
    const found = token.exec(this.text)?.[0];
    this.at += found?.length ?? 0;
    return found;
  }

  private fail(expected: string): never {
    const before = this.text.slice(0, this.at).split('\n');
    const column = (before.at(-1)?.length ?? 0) + 1;
    const code = this.text.codePointAt(this.at);
    const found = code === undefined ? 'the end of the text' : JSON.stringify(String.fromCodePoint(code));
    throw new FlannelError(
      `invalid JSON at line ${before.length}, column ${column}: found ${found}, expected ${expected}`,
    );
  }
}

function closerOf(container: OpenArray | OpenObject): ']' | '}' {
  return container.kind === 'array' ? ']' : '}';
}
