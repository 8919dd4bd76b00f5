/** Texts that are nearly right. */
import fc from 'fast-check';

/** Words put together at random: nearer to what is read than any string, and no nearer to what is right. */
export function soup(...words: readonly string[]): fc.Arbitrary<string> {
  return fc.array(fc.constantFrom(...words), { maxLength: 16 }).map((parts) => parts.join(''));
}

/** Of a subnet file. */
export const ENV_WORDS = [
  'FLANNEL_SUBNET',
  '=',
  '"',
  "'",
  '\\',
  ',',
  '10.5.72.1/24',
  '#',
  '\n',
  ' ',
  'export ',
  ':',
  '\0',
];

/** Of a JSON document. */
export const JSON_WORDS = [
  '{',
  '}',
  '[',
  ']',
  '"',
  ':',
  ',',
  '\\',
  '\\u00',
  '\\ud800',
  '1',
  '-',
  '.',
  'e',
  'null',
  ' ',
  '\n',
  'ab',
];
