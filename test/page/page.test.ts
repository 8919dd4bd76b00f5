/** The status page in a real browser, served by a real daemon with peers and traffic. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, afterEach, describe, test } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import type { Daemon } from '../../bench/daemon.js';
import type { StatusReport } from '../../src/status/report.js';
import { startBrowser } from '../lib/browser.js';
import { eventually } from '../lib/eventually.js';
import { TestNetwork } from '../lib/network.js';
import { PacedStream } from '../lib/streams.js';

const FLAGS = ['--healthz-port=9000', '--status-page'];
const URL = 'http://192.168.77.1:9000/status/';
const PATIENCE_MS = 30_000;
const HOSTILE = '"><img src=x onerror="window.hit=1"><script>window.hit=1</script>';

let network: TestNetwork;
let daemons: Daemon[];
let stream: PacedStream;
let browser: Browser;
let page: Page;
let complaints: string[];

before(async () => {
  network = await TestNetwork.create(3);
  daemons = [network.start(1, ...FLAGS), network.start(2, ...FLAGS), network.start(3, '--healthz-port=9000')];
  await Promise.all(daemons.map((daemon) => daemon.ready(2)));
  const [a, b] = daemons;
  assert.ok(a && b);
  stream = await PacedStream.start(a, b, 50e6);
  browser = await startBrowser();
});
after(async () => {
  await browser.close();
  await stream.stop();
  await network.close();
});
beforeEach(async () => {
  complaints = [];
  page = await browser.newPage();
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text());
  });
  await page.goto(URL);
});
afterEach(() => page.close());

const text = async (selector: string) => (await page.textContent(selector)) ?? '';
const becomes = (selector: string, pattern: RegExp) =>
  eventually(async () => {
    assert.match(await text(selector), pattern);
  }, PATIENCE_MS);
/** Runs in the page. */
const inPage = <T>(expression: string) => page.evaluate<T>(expression);

test('shows the host, the peers under traffic, and a plot that moves', async () => {
  await becomes('#state', /^ready$/);
  await becomes('#bits-out', /^\d.* Mbit\/s$/);
  const [a, b, c] = daemons;
  assert.ok(a && b && c);
  await becomes(
    '#host',
    new RegExp(`${a.overlaySubnet} of 10\\.244\\.0\\.0/16.*192\\.168\\.77\\.1:8285 over eth0`),
  );
  const busiest = '#peers tbody tr:first-child';
  await becomes(busiest, new RegExp(`${b.overlaySubnet}192\\.168\\.77\\.2:8285.*Mbit/s.* ms1500● ok`));
  await becomes('#peers tbody tr:nth-child(2)', new RegExp(c.overlaySubnet));
  await becomes('#peers caption', /^2 peers$/);
  const line = () => page.getAttribute('#plot .out-line', 'points');
  const first = await line();
  await eventually(async () => (await line()) !== first, PATIENCE_MS);
  assert.match((await page.getAttribute('#plot', 'aria-label')) ?? '', /now out .* Mbit\/s/);
  assert.deepEqual(complaints, []);
});

test('is off unless asked for, and serves nothing else of the disk', async () => {
  // curl, since a browser tidies such paths up.
  const status = async (path: string, host = 1) => {
    const url = `http://192.168.77.${host}:9000${path}`;
    const args = ['-s', '--path-as-is', '-o', '/dev/null', '-w', '%{http_code}', url];
    return (await network.host(1).exec('curl', ...args)).stdout;
  };
  assert.equal(await status('/status/'), '200');
  assert.equal(await status('/status'), '308');
  assert.equal(await status('/status/', 3), '404');
  assert.equal(await status('/status/status.json', 3), '404');
  for (const path of [
    '../../../package.json',
    '%2e%2e/report.js',
    'collect.js',
    '/etc/passwd',
    'constructor',
  ]) {
    assert.equal(await status(`/status/${path}`), '404');
  }
});

test('what a peer or the store says is text, whatever it says', async () => {
  await page.route('**/status.json*', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: hostile((await response.json()) as StatusReport) });
  });
  await becomes('#peers tbody tr:first-child', /<img src=x/);
  await becomes('#reason', /<script>/);
  await becomes('#problems', /<script>/);
  assert.equal(await inPage('window.hit'), undefined);
  assert.equal(await inPage('document.querySelectorAll("img, body script").length'), 0);
});

/** Every text of a report but its times replaced. */
function hostile(report: StatusReport): StatusReport {
  const replaced = (value: unknown): unknown => {
    if (typeof value === 'string') return /^\d{4}-.*Z$/.test(value) ? value : HOSTILE;
    if (Array.isArray(value)) return value.map(replaced);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, replaced(inner)]));
  };
  const problem = { at: report.at, severity: 'error', message: HOSTILE };
  return { ...(replaced({ ...report, problems: [problem] }) as StatusReport), reason: HOSTILE };
}

test('no script but its own runs', async () => {
  await inPage(
    'document.body.append(Object.assign(document.createElement("script"), {textContent: "window.hit=1"}))',
  );
  await eventually(() => complaints.join('\n').includes('Content Security Policy'), PATIENCE_MS);
  assert.equal(await inPage('window.hit'), undefined);
});

describe('is for everyone', () => {
  test('everything that can be used has a name, every heading its level, every cell its headers', async () => {
    await becomes('#peers tbody', /● ok/);
    assert.equal(await inPage('document.documentElement.lang'), 'en');
    const unnamed =
      '[...document.querySelectorAll("input")].filter((e) => !e.labels.length).length + ' +
      '[...document.querySelectorAll("button")].filter((e) => !e.textContent.trim()).length + ' +
      '[...document.querySelectorAll("[role=img]")].filter((e) => !e.getAttribute("aria-label")).length + ' +
      '[...document.querySelectorAll("[aria-labelledby]")].filter((e) => !document.getElementById(e.getAttribute("aria-labelledby"))).length';
    assert.equal(await inPage(unnamed), 0);
    assert.equal(
      await inPage('[...document.querySelectorAll("th")].every((e) => ["col", "row"].includes(e.scope))'),
      true,
    );
    assert.deepEqual(await inPage('[...document.querySelectorAll("h1,h2,h3")].map((e) => e.tagName)'), [
      'H1',
      'H2',
      'H2',
      'H2',
      'H2',
    ]);
    assert.equal(
      await inPage(
        'new Set([...document.querySelectorAll("[id]")].map((e) => e.id)).size === document.querySelectorAll("[id]").length',
      ),
      true,
    );
  });

  test('the keyboard finds and sorts', async () => {
    const [, b, c] = daemons;
    assert.ok(b && c);
    await becomes('#peers tbody', /● ok/);
    await page.keyboard.press('Tab');
    await page.keyboard.type('77.3');
    await becomes('#peers caption', /1 of them shown/);
    assert.match(await text('#peers tbody'), new RegExp(c.overlaySubnet));
    await page.fill('#filter', '');
    // Past the region that scrolls, to the second column.
    for (let i = 0; i < 3; i++) await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await becomes('#peers tbody tr:first-child', new RegExp(c.overlaySubnet));
    assert.equal(await page.getAttribute('#peers th:nth-child(2)', 'aria-sort'), 'descending');
    await page.keyboard.press('Enter');
    await becomes('#peers tbody tr:first-child', new RegExp(b.overlaySubnet));
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    test(`${colorScheme}: every text stands out from its ground as WCAG 2 (AA) wants it`, async () => {
      await page.emulateMedia({ colorScheme });
      const colours = ['text', 'quiet', 'out', 'in', 'good', 'bad', 'ground', 'card', 'bad-ground'];
      const values = await inPage<string[]>(
        `${JSON.stringify(colours)}.map((name) => getComputedStyle(document.documentElement).getPropertyValue('--' + name))`,
      );
      const of = new Map(colours.map((name, i) => [name, values[i]?.trim() ?? '']));
      const ratio = (a: string, b: string) => contrast(of.get(a) ?? '', of.get(b) ?? '');
      for (const name of ['text', 'quiet', 'out', 'in', 'good', 'bad']) {
        assert.ok(ratio(name, 'card') >= 4.5, `${name} on card: ${ratio(name, 'card')}`);
      }
      for (const name of ['text', 'quiet', 'good', 'bad']) assert.ok(ratio(name, 'ground') >= 4.5, name);
      assert.ok(ratio('text', 'bad-ground') >= 4.5);
    });
  }

  test('fits a phone', async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    await becomes('#peers tbody', /● ok/);
    assert.ok((await inPage<number>('document.documentElement.scrollWidth')) <= 360);
  });
});

/** WCAG 2.2, "contrast ratio". */
function contrast(a: string, b: string): number {
  const luminance = (hex: string) => {
    const parts = [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16) / 255);
    const [r = 0, g = 0, blue = 0] = parts.map((c) =>
      c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4,
    );
    return 0.2126 * r + 0.7152 * g + 0.0722 * blue;
  };
  const [light = 0, dark = 0] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (light + 0.05) / (dark + 0.05);
}

test('tells when the daemon goes, and goes on when it is back', async () => {
  await becomes('#state', /^ready$/);
  const [a] = daemons;
  assert.ok(a);
  await a.stop();
  await becomes('#state', /^connection lost$/);
  await becomes('#lost', /^Connection lost for \d+ s: flanneld does not answer/);
  daemons[0] = network.start(1, ...FLAGS);
  await becomes('#state', /^ready$/);
  assert.equal(await page.isVisible('#lost'), false);
  await becomes('#bits-out', /bit\/s$/);
  await becomes('#uptime', new RegExp(`pid ${await pidFromStatus()}$`));
});

async function pidFromStatus(): Promise<number> {
  const response = await page.request.get(`${URL}status.json`);
  return ((await response.json()) as StatusReport).pid;
}
