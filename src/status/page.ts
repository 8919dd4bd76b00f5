/** The files of the page: those beside this source, and the modules that the terminal view shares with it. */
import { readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';

const STATIC = new URL('../../../src/status/page/', import.meta.url);
const MODULES = new URL('./', import.meta.url);

const TYPES = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
} as const;

interface PageFile {
  readonly url: URL;
  readonly type: string;
}

const FILES = new Map<string, PageFile>([
  ['', { url: new URL('index.html', STATIC), type: TYPES.html }],
  ['page.css', { url: new URL('page.css', STATIC), type: TYPES.css }],
  ['page.js', { url: new URL('page.js', STATIC), type: TYPES.js }],
  ...['dom.js', 'peers.js', 'plot.js'].map((name): [string, PageFile] => [
    name,
    { url: new URL(name, STATIC), type: TYPES.js },
  ]),
  ...['rates.js', 'units.js', 'wording.js'].map((name): [string, PageFile] => [
    name,
    { url: new URL(name, MODULES), type: TYPES.js },
  ]),
]);

/** Nothing from elsewhere, nothing inline: what a peer calls itself can only ever be text. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** False for a name that is none of the page's. */
export async function sendPageFile(name: string, response: ServerResponse): Promise<boolean> {
  const file = FILES.get(name);
  if (file === undefined) return false;
  const body = await readFile(file.url);
  const headers = {
    'Content-Type': file.type,
    'Content-Length': body.length,
    'Content-Security-Policy': POLICY,
    'Cache-Control': 'no-cache',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
  };
  response.writeHead(200, headers).end(body);
  return true;
}
