/** Whether the daemon is alive, and whether it is ready: what it knows of itself, judged. */
import type { DaemonState } from './daemon-state.js';
import { formatBothSubnets } from './lease/lease.js';
import { redact } from './logging/redact.js';

/** One thing that was looked at. */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** What there is to say about it; the reason where it is not ok. */
  readonly detail: string;
}

/** What the checks look at. */
export type Observed = Pick<
  DaemonState,
  | 'phase'
  | 'obstacle'
  | 'storeHealth'
  | 'config'
  | 'backendType'
  | 'backend'
  | 'whereabouts'
  | 'lease'
  | 'peerCount'
  | 'subnetFile'
  | 'trafficRules'
>;

/** Rules that a reload of the firewall takes away are back sooner. */
const RULES_GRACE_MS = 60_000;

/**
 * Alive: the dataplane, once there is one, moves packets by a table that is the store's, or was when the store went away.
 * A restart mends what fails here, or at least nothing is lost by one.
 */
export function livenessChecks(state: Observed): Check[] {
  return [storeCheck(state), dataplaneCheck(state)];
}

/** Ready: alive, and containers on this host have a subnet whose packets reach other hosts. */
export function readinessChecks(state: Observed, now = Date.now()): Check[] {
  return [
    ...livenessChecks(state),
    phaseCheck(state),
    interfaceCheck(state),
    leaseCheck(state, now),
    subnetFileCheck(state),
    trafficRulesCheck(state, now),
  ];
}

export function allOk(checks: readonly Check[]): boolean {
  return checks.every(({ ok }) => ok);
}

/** `dataplane failed: reason; lease failed: reason`, of the checks that failed. */
export function describeFailures(checks: readonly Check[]): string {
  return checks
    .filter(({ ok }) => !ok)
    .map(({ name, detail }) => `${name} failed: ${detail}`)
    .join('; ');
}

/** In one line: the subnet, the peers and the store. */
export function summarize(state: Observed): string {
  const { phase, lease, peerCount } = state;
  const store = storeCheck(state);
  if (phase !== 'running' || lease === null) return `${phase}; store ${store.detail}`;
  const failures = describeFailures(readinessChecks(state).filter(({ name }) => name !== 'store'));
  const subnet = `subnet ${formatBothSubnets(lease.lease.subnet)}, ${peerCount} peers, store ${store.detail}`;
  return failures === '' ? subnet : `${failures}; ${subnet}`;
}

function storeCheck({ storeHealth: health }: Observed): Check {
  const check = (ok: boolean, detail: string): Check => ({ name: 'store', ok, detail });
  if (health === null) return check(true, 'not asked yet');
  if (health.reachable) return check(true, 'reachable');
  if (health.lastError === null) return check(true, 'has not answered yet');
  const since = `since ${new Date(health.since).toISOString()} (${Math.round(health.forMs / 1000)} s)`;
  const away = `away ${since}: ${redact(health.lastError)}`;
  return health.hasTable ? check(true, `${away}; serving its last table`) : check(false, away);
}

function dataplaneCheck({ backend }: Observed): Check {
  const check = (ok: boolean, detail: string): Check => ({ name: 'dataplane', ok, detail });
  if (backend === null) return check(true, 'not opened yet');
  if (backend.failure !== null) return check(false, backend.failure);
  const { dataplane, device } = backend;
  if (dataplane === null) return check(true, `${device}, moved by the kernel`);
  const { standing } = dataplane;
  if (standing === 'deposed')
    return check(false, dataplane.standingReason ?? 'taken back by another process');
  const features = dataplane.features.join(', ') || 'no offloads';
  return check(true, `${device}, ${standing}, ${dataplane.routes} routes, ${features}`);
}

function phaseCheck({ phase, obstacle }: Observed): Check {
  const detail = obstacle === null ? phase : `${phase}: ${redact(obstacle)}`;
  return { name: 'phase', ok: phase === 'running' || phase === 'opening the backend', detail };
}

function interfaceCheck({ whereabouts }: Observed): Check {
  const check = (ok: boolean, detail: string): Check => ({ name: 'interface', ok, detail });
  if (whereabouts === null) return check(false, 'not chosen yet');
  const { external, lost, running } = whereabouts;
  if (lost !== null) return check(false, lost);
  return running ? check(true, external.name) : check(false, `${external.name} is down`);
}

function leaseCheck({ lease: status }: Observed, now: number): Check {
  const check = (ok: boolean, detail: string): Check => ({ name: 'lease', ok, detail });
  if (status === null) return check(false, 'not acquired yet');
  const { lease, held } = status;
  const subnet = formatBothSubnets(lease.subnet);
  if (!held) return check(false, `${subnet} is not this host's in the store; claiming it again`);
  if (lease.expiration === null) return check(true, `${subnet}, a reservation`);
  const until = new Date(lease.expiration).toISOString();
  return lease.expiration > now
    ? check(true, `${subnet} until ${until}`)
    : check(false, `${subnet} ran out at ${until}`);
}

function subnetFileCheck({ subnetFile: file }: Observed): Check {
  const detail = file === null ? 'not written yet' : (file.error ?? file.path);
  return { name: 'subnet-file', ok: file?.error === null, detail };
}

/**
 * Fails where the rules have been incomplete for long. That they cannot be looked at is only told: they may well be in
 * place, and a runtime that takes the node for unready moves its pods away.
 */
function trafficRulesCheck({ trafficRules: rules }: Observed, now: number): Check {
  const check = (ok: boolean, detail: string): Check => ({ name: 'traffic-rules', ok, detail });
  if (rules === null) return check(true, 'not set up yet');
  const { manager, lastError, incompleteSince, repairs } = rules;
  if (manager === null) return check(true, 'none wanted');
  if (incompleteSince !== null) {
    const forMs = now - incompleteSince;
    const since = `since ${new Date(incompleteSince).toISOString()} (${Math.round(forMs / 1000)} s)`;
    return check(forMs < RULES_GRACE_MS, `${manager}, incomplete ${since}: ${lastError ?? ''}`);
  }
  if (lastError !== null) return check(true, `${manager}, cannot be looked at: ${lastError}`);
  return check(true, `${manager}, complete${repairs === 0 ? '' : `, repairs so far: ${repairs}`}`);
}
