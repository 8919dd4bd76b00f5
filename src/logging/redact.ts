/**
 * Takes secrets out of a text, by what they look like: the user info of URLs, bearer tokens, JSON web tokens, and what
 * follows `password=`. Greedy on purpose: where a password makes a URL ambiguous, rather too much is hidden.
 */
export function redact(text: string): string {
  if (!MAY_BE_SECRET.test(text)) return text;
  return text
    .replace(/\/\/(?:(?!,\w+:\/\/)[^\s"'])*@/g, '//***@')
    .replace(/\b(bearer\s+)[\w.~+/=-]+/gi, '$1***')
    .replace(/\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?/g, '***')
    .replace(/(passw(?:or)?d["']?[=:])(?:"[^"]*"|'[^']*'|[^\s"',;}]+)/gi, '$1***');
}

const MAY_BE_SECRET = /@|bearer|eyJ|passw/i;
