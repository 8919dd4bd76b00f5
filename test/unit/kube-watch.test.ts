/** The list and watch against a server that says what a script wants, over real connections. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, test } from 'node:test';
import { FixedIdentity } from '../../src/subnet/kube/access.js';
import type { Identity } from '../../src/subnet/kube/access.js';
import { KubeClient } from '../../src/subnet/kube/client.js';
import { NodeWatch } from '../../src/subnet/kube/node-watch.js';
import { StoreMonitor } from '../../src/subnet/health.js';
import { eventually } from '../lib/eventually.js';
import { captureLog } from '../lib/store.js';

const TIMINGS = { connectMs: 2_000, answerMs: 300, pingMs: 200, pauseMs: 300, graceMs: 200 };

type Step = (request: IncomingMessage, response: ServerResponse) => void;

/** Answers one request a step; what comes after the last one waits for ever. */
class Script {
  readonly urls: string[] = [];
  readonly times: number[] = [];
  private readonly server: Server;

  constructor(steps: Step[]) {
    this.server = createServer((request, response) => {
      this.urls.push(request.url ?? '');
      this.times.push(performance.now());
      const step = steps.shift();
      if (step === undefined) response.writeHead(200).flushHeaders();
      else step(request, response);
    }).listen(0, '127.0.0.1');
  }

  async client(identity: Identity = new FixedIdentity(null, null, null)): Promise<KubeClient> {
    if (!this.server.listening) await once(this.server, 'listening');
    const { port } = this.server.address() as AddressInfo;
    const tls = () => Promise.resolve({ ca: null, certificate: null, serverName: null, insecure: false });
    return new KubeClient({ server: new URL(`http://127.0.0.1:${port}`), identity, tls }, TIMINGS);
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}

const node = (name: string, version: number) => ({ metadata: { name, resourceVersion: String(version) } });

function list(names: readonly string[], version: number, next = ''): Step {
  const items = names.map((name) => node(name, version));
  return answers(200, { metadata: { resourceVersion: String(version), continue: next }, items });
}

function answers(status: number, body: unknown, headers: Record<string, string> = {}): Step {
  return (_, response) => {
    response.writeHead(status, headers).end(JSON.stringify(body));
  };
}

/** A watch that delivers these events; `after` is what it does then. */
function watch(events: readonly unknown[], after: 'ends' | 'stays' | 'breaks' = 'ends'): Step {
  return (_, response) => {
    response.writeHead(200);
    response.write(events.map((event) => `${JSON.stringify(event)}\n`).join(''), () => {
      if (after === 'ends') response.end();
      else if (after === 'breaks') response.destroy();
    });
    response.flushHeaders();
  };
}

const put = (name: string, version: number) => ({ type: 'MODIFIED', object: node(name, version) });
const gone = { kind: 'Status', status: 'Failure', reason: 'Expired', code: 410, message: 'too old' };

const cleanUp: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step();
});

/** Follows a script; `seen` is what came, `+name`, `-name` or `=all,names`. */
async function follow(steps: Step[], identity?: Identity) {
  const script = new Script(steps);
  const client = await script.client(identity);
  const lines = captureLog();
  const seen: string[] = [];
  const monitor = new StoreMonitor('the API server');
  const ended = new AbortController();
  const running = (async () => {
    for await (const events of new NodeWatch(
      client,
      ({ name }) => name,
      monitor,
      () => 0,
    ).run(ended.signal)) {
      for (const event of events) {
        if (event.type === 'snapshot') seen.push(`=${event.nodes.join(',')}`);
        else seen.push(event.type === 'put' ? `+${event.node}` : `-${event.name}`);
      }
    }
  })();
  cleanUp.push(async () => {
    ended.abort();
    await running;
    client.close();
    script.close();
  });
  const sees = (...wanted: string[]) =>
    eventually(() => {
      assert.deepEqual(seen, wanted, lines.join(''));
    });
  return { script, sees, lines, monitor };
}

describe('the nodes', () => {
  test('are read page by page, then watched from there on, each watch where the last one ended', async () => {
    const { script, sees, monitor } = await follow([
      list(['a', 'b'], 10, 'p/2'),
      list(['c'], 10),
      watch([
        put('a', 11),
        { type: 'ADDED', object: node('d', 12) },
        { type: 'DELETED', object: node('b', 13) },
        { type: 'BOOKMARK', object: { metadata: { resourceVersion: '20' } } },
      ]),
      watch([put('e', 21)]),
    ]);
    await sees('=a,b,c', '+a', '+d', '-b', '+e');
    await eventually(() => script.urls.length === 5);
    assert.deepEqual(
      script.urls.map((url) => url.replace(/timeoutSeconds=\d+/, 'timeoutSeconds=N')),
      [
        '/api/v1/nodes?limit=500',
        '/api/v1/nodes?limit=500&continue=p%2F2',
        ...['10', '20', '21'].map(
          (from) => `/api/v1/nodes?watch=1&allowWatchBookmarks=true&resourceVersion=${from}&timeoutSeconds=N`,
        ),
      ],
    );
    assert.deepEqual([monitor.health.reachable, monitor.health.tableRevision], [true, '21']);
  });

  for (const [how, step] of [
    ['an answer', answers(410, gone)],
    ['an event', watch([put('b', 11), { type: 'ERROR', object: gone }], 'stays')],
  ] as const) {
    test(`are read anew when ${how} says that the past is gone`, async () => {
      const { script, sees, lines } = await follow([
        list(['a'], 10),
        step,
        list(['c'], 30),
        watch([put('c', 31)]),
      ]);
      // What came along with the event is in the new list as well.
      await sees('=a', '=c', '+c');
      assert.match(script.urls[3] ?? '', /resourceVersion=30/);
      assert.match(lines.join(''), /reading all nodes anew/);
      assert.doesNotMatch(lines.join(''), /lost the API server/);
    });
  }

  test('are read at once when the pages of a list have gone', async () => {
    const { script, sees } = await follow([list(['a'], 10, 'x'), answers(410, gone), list(['a', 'b'], 11)]);
    await sees('=a,b');
    assert.equal(script.urls[2], '/api/v1/nodes');
  });

  test('are read anew when the server has gone back in time', async () => {
    const back = { type: 'BOOKMARK', object: { metadata: { resourceVersion: '5' } } };
    const { sees } = await follow([list(['a'], 10), watch([back], 'stays'), list(['b'], 5)]);
    await sees('=a', '=b');
  });

  test('wait for as long as the server asks', async () => {
    const { script, sees, lines } = await follow([
      answers(429, { message: 'too many requests' }, { 'retry-after': '1' }),
      list(['a'], 10),
    ]);
    await sees('=a');
    const [first = 0, second = 0] = script.times;
    assert.ok(second - first > 990, String(second - first));
    assert.match(lines.join(''), /too many requests \(429\)/);
  });

  test('survive broken connections, silence and nonsense', async () => {
    const { script, sees } = await follow([
      (_, response) => response.destroy(),
      () => undefined,
      (_, response) => response.writeHead(200).write('{"items":[{"metadata":{"name":"a"}},'),
      (_, response) => response.writeHead(200).end('<html>'),
      answers(500, { message: 'etcd is away' }),
      list(['a'], 10),
      watch([put('b', 11)], 'breaks'),
      (_, response) => response.writeHead(200).end('{"type":"MODI\n'),
      watch([put('c', 12)], 'stays'),
    ]);
    await eventually(() => script.urls.length === 9, 20_000);
    await sees('=a', '+b', '+c');
    assert.match(script.urls[8] ?? '', /resourceVersion=11/);
  });

  test('are asked for with a new token when the old one is rejected', async () => {
    const tokens = ['old', 'new', 'newer'];
    const shown: (string | undefined)[] = [];
    const checks =
      (step: Step): Step =>
      (request, response) => {
        shown.push(request.headers.authorization);
        step(request, response);
      };
    const identity: Identity = {
      authorization: () => Promise.resolve(`Bearer ${tokens[0] ?? ''}`),
      certificate: () => Promise.resolve(null),
      rejected: () => tokens.shift(),
    };
    const { sees, lines } = await follow(
      [checks(answers(401, {})), checks(list(['a'], 10)), checks(watch([put('b', 11)]))],
      identity,
    );
    await sees('=a', '+b');
    assert.deepEqual(shown, ['Bearer old', 'Bearer new', 'Bearer new']);
    assert.equal(lines.length, 0, lines.join(''));
  });

  test('that may not be read are asked for again, and the log says once what to do', async () => {
    const forbidden = answers(403, { message: 'nodes is forbidden' });
    const { sees, lines } = await follow([
      (_, response) => response.destroy(),
      forbidden,
      forbidden,
      list(['a'], 10),
    ]);
    await sees('=a');
    const told = lines.filter((line) => line.includes('grant it the ClusterRole flannel'));
    assert.equal(told.length, 1, lines.join(''));
  });

  test('are asked for again when a watch outlives its time', async () => {
    const script = new Script([list(['a'], 10), watch([], 'stays')]);
    const client = await script.client();
    cleanUp.push(() => {
      client.close();
      script.close();
    });
    await client.list('/api/v1/nodes', () => undefined, new AbortController().signal);
    await assert.rejects(async () => {
      for await (const events of client.watch('/api/v1/nodes?watch=1', 0, new AbortController().signal)) {
        assert.deepEqual(events, []);
      }
    }, /the watch did not end when it should have/);
  });
});
