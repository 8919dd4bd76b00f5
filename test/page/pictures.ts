/**
 * `npm run docs:pictures`: the pictures in docs/images, of real daemons on hosts in namespaces under traffic. The one of
 * the terminal is what `flanneld status --watch` wrote to a terminal, rendered by the browser.
 */
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Browser } from 'playwright-core';
import { FLANNELD } from '../../bench/daemon.js';
import type { Daemon } from '../../bench/daemon.js';
import { ROOT } from '../../bench/tools.js';
import { terminalPage } from '../lib/ansi.js';
import { startBrowser } from '../lib/browser.js';
import { TestNetwork } from '../lib/network.js';
import { PacedStream } from '../lib/streams.js';

const IMAGES = join(ROOT, 'docs/images');
const HOSTS = 5;
const COLUMNS = 100;
const ROWS = 24;
/** The traffic changes its pace this often. */
const STEP_MS = 6_000;
const HOME = '\x1b[H';

async function main(): Promise<void> {
  const network = await TestNetwork.create(HOSTS);
  const daemons = await network.startAll('--healthz-port=9000', '--status-page');
  const browser = await startBrowser();
  const ended = new AbortController();
  const traffic = makeTraffic(daemons, ended.signal);
  try {
    const [page, terminal] = await Promise.all([pictureOfPage(browser), recordTerminal(daemons)]);
    await pictureOfTerminal(browser, terminal);
    process.stdout.write(`${page.join('\n')}\n${IMAGES}/status-watch.png\n`);
  } finally {
    ended.abort();
    await traffic;
    await browser.close();
    await network.close();
  }
}

/** Streams of the first host with three others that swell and fade. */
async function makeTraffic([self, ...others]: readonly Daemon[], signal: AbortSignal): Promise<void> {
  const paces = [300e6, 480e6, 120e6, 620e6, 380e6, 540e6, 200e6];
  const [b, c, d] = others;
  if (self === undefined || b === undefined || c === undefined || d === undefined) return;
  for (let step = 0; !signal.aborted; step++) {
    const pace = paces[step % paces.length] ?? 0;
    const port = 5201 + 3 * step;
    const streams = await Promise.all([
      PacedStream.start(self, b, pace, port),
      PacedStream.start(c, self, 240e6 + pace / 4, port + 1),
      PacedStream.start(self, d, 30e6, port + 2),
    ]);
    await delay(STEP_MS, undefined, { signal }).catch(() => undefined);
    await Promise.all(streams.map((stream) => stream.stop()));
  }
}

async function pictureOfPage(browser: Browser): Promise<string[]> {
  const page = await browser.newPage({ viewport: { width: 1180, height: 760 } });
  await page.emulateMedia({ colorScheme: 'light' });
  await page.goto('http://192.168.77.1:9000/status/');
  await delay(75_000);
  const files: string[] = [];
  const shoot = async (name: string) => {
    const path = join(IMAGES, `status-page${name}.png`);
    await page.screenshot({ path, fullPage: true });
    files.push(path);
  };
  await shoot('');
  await page.emulateMedia({ colorScheme: 'dark' });
  await shoot('-dark');
  await page.setViewportSize({ width: 390, height: 760 });
  await delay(1_500);
  await shoot('-phone');
  return files;
}

/** The last frame that `flanneld status --watch` draws in a minute. */
async function recordTerminal([self]: readonly Daemon[]): Promise<string> {
  if (self === undefined) return '';
  const command = `stty cols ${COLUMNS} rows ${ROWS}; exec ${process.execPath} ${FLANNELD} status --watch --subnet-file=${self.subnetFile}`;
  const child = self.host.spawn('script', ['-qfec', command, '/dev/null'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, TERM: 'xterm-256color', NO_COLOR: '' },
  });
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (output += text));
  const closed = once(child, 'close');
  await delay(60_000);
  child.kill('SIGTERM');
  await closed;
  // The very last one may be cut off.
  return output.split(HOME).at(-2) ?? '';
}

async function pictureOfTerminal(browser: Browser, frame: string): Promise<void> {
  const page = await browser.newPage();
  await page.setContent(terminalPage(frame.replaceAll('\r', '')));
  await page.locator('body').screenshot({ path: join(IMAGES, 'status-watch.png') });
}

await main();
