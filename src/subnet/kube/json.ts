/** Reading JSON that somebody else wrote: whatever is not of the expected kind is as good as absent. */
export type JsonFields = Readonly<Record<string, unknown>>;

const NOTHING: JsonFields = {};

/** The members of an object; none for everything else. */
export function fieldsOf(value: unknown): JsonFields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as JsonFields)
    : NOTHING;
}

/** A string; empty for everything else. */
export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

/** The elements of an array; none for everything else. */
export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as readonly unknown[]) : [];
}
