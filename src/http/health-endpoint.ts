/** /healthz, /readyz, /metrics and /status/ on --healthz-ip:--healthz-port. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { controlSocketPath } from '../socket-paths.js';
import type { DaemonState } from '../daemon-state.js';
import { findOwner } from '../dataplane.js';
import { FlannelError } from '../errors.js';
import type { Options } from '../flags.js';
import { allOk, describeFailures, livenessChecks, readinessChecks } from '../health.js';
import type { Check } from '../health.js';
import type { StatusService } from '../status/service.js';
import { HttpServer } from './server.js';

interface Probe {
  readonly checks: (state: DaemonState) => Check[];
  readonly good: string;
  readonly bad: (checks: readonly Check[]) => string;
}

/** Bodies as of stock flannel, whose /healthz cannot fail. */
const PROBES: Readonly<Record<string, Probe>> = {
  healthz: {
    checks: livenessChecks,
    good: 'flanneld is running',
    bad: (checks) => `flanneld is not healthy: ${describeFailures(checks)}`,
  },
  readyz: {
    checks: readinessChecks,
    good: 'flanneld is ready',
    bad: () => 'flanneld is not ready yet',
  },
};

/** Starts it where the flags ask for it; else null. @throws FlannelError */
export async function startHealthEndpoint(
  state: DaemonState,
  status: StatusService,
): Promise<HttpServer | null> {
  const { healthzIp: ip, healthzPort: port } = state.options;
  if (port <= 0) return null;
  if (port > 65535) throw new FlannelError(`Invalid healthz-port ${port}: write a number from 0 to 65535`);
  // Only those who open the port pay for the library of the metrics.
  const { sendMetrics } = await import('../metrics/endpoint.js');
  const server = new HttpServer({ ip, port }, async (request, response) => {
    if (await status.answerPage(request, response)) return;
    if (splitUrl(request).path === '/metrics') await sendMetrics(state, response);
    else answerProbe(state, request, response);
  });
  await server.listen(() => predecessorRuns(state.options));
  return server;
}

function predecessorRuns(options: Options): boolean {
  const path = controlSocketPath(options);
  try {
    return path !== null && findOwner(path).alive;
  } catch {
    return false; // nobody who would let us have anything
  }
}

function splitUrl({ url = '' }: IncomingMessage): { path: string; query: string } {
  const [path = '', query = ''] = url.split('?', 2);
  return { path, query };
}

function answerProbe(state: DaemonState, request: IncomingMessage, response: ServerResponse): void {
  const { path, query } = splitUrl(request);
  const name = path.slice(1);
  const probe = path.startsWith('/') && Object.hasOwn(PROBES, name) ? PROBES[name] : undefined;
  if (probe === undefined) {
    send(response, 404, '404 page not found\n');
    return;
  }
  const checks = probe.checks(state);
  const ok = allOk(checks);
  const verbose = new URLSearchParams(query).has('verbose');
  const brief = ok ? probe.good : probe.bad(checks);
  send(response, ok ? 200 : 503, verbose ? listChecks(name, checks) : brief);
}

/** As Kubernetes' components list theirs. */
function listChecks(name: string, checks: readonly Check[]): string {
  const lines = checks.map((check) =>
    check.ok ? `[+]${check.name} ok: ${check.detail}` : `[-]${check.name} failed: ${check.detail}`,
  );
  return [...lines, `${name} check ${allOk(checks) ? 'passed' : 'failed'}`, ''].join('\n');
}

function send(response: ServerResponse, status: number, body: string): void {
  const headers = {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
    'X-Content-Type-Options': 'nosniff',
  };
  response.writeHead(status, headers).end(body);
}
