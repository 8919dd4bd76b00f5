/**
 * Takes secrets out of a text, by what they look like: the user info of URLs, authorization headers, JSON web tokens,
 * private keys, and what stands behind a name such as `password` or `token`. Greedy on purpose: where a password makes
 * a URL ambiguous, rather too much is hidden. Takes time in proportion to the text, whoever wrote it.
 */
export function redact(text: string): string {
  if (!MAY_BE_SECRET.test(text)) return text;
  return text
    .replace(/\/\/\S+/g, hideUserInfo)
    .replace(USER_INFO_WITHOUT_SCHEME, '***')
    .replace(/\b(authorization["']?\s*[:=]\s*["']?(?:[a-z]+ )?)[\w.~+/=-]+/gi, '$1***')
    .replace(/\b(bearer\s+)[\w.~+/=-]+/gi, '$1***')
    .replace(/\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?/g, '***')
    .replace(/-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|$)/gs, '***')
    .replace(NAMED_SECRET, '$1***');
}

const MAY_BE_SECRET = /@|bearer|authorization|eyJ|passw|passphrase|secret|token|key-data|PRIVATE KEY/i;

/** As of an endpoint whose scheme was forgotten. */
const USER_INFO_WITHOUT_SCHEME = /\b\w{1,100}:(?!\/\/)[^\s"',]{1,200}(?=@[\w.[\]:-]{1,253}:\d)/g;

const NAME = '(?:passw(?:or)?d|passphrase|secret|token|key-data)';
/** `password=x`, `"password": "x"`, `password: x`; in `etcdPassword: x`, the value is empty and x something else. */
const ASSIGNMENT = String.raw`${NAME}[=:]|${NAME}\\?["']\s*[=:]\s*|(?<![a-z])${NAME}\s*[=:]\s*`;
const QUOTED = String.raw`"(?:[^"\\]|\\.)*"|'[^']*'|\\"[^"]*"`;
const BARE = String.raw`(?!["'])\S*[^\s"',;}\])]`;
const NAMED_SECRET = new RegExp(`(${ASSIGNMENT})(?:${QUOTED}|${BARE})`, 'gi');

/** @param urls one, or several without white space between them */
function hideUserInfo(urls: string): string {
  const parts = urls.split(/(?=,["']?\w+:\/\/)/).map((url) => {
    const start = url.indexOf('//') + 2;
    const end = url.lastIndexOf('@');
    return end < start ? url : `${url.slice(0, start)}***${url.slice(end)}`;
  });
  return parts.join('');
}
