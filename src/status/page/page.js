/** Shows status.json of the flanneld that serves this page, and looks again every second. */
import { element, fill, setText } from './dom.js';
import { PeerTable } from './peers.js';
import { Plot } from './plot.js';
import { ratesBetween, totalOf } from './rates.js';
import { formatDuration, formatQuantity } from './units.js';
import { endpointText, rulesText } from './wording.js';

const INTERVAL_MS = 1000;
const TIMEOUT_MS = 5000;
const NOTHING = '–';

const byId = (id) => document.getElementById(id);
const plot = new Plot(byId('plot'));
const peers = new PeerTable(byId('peers'), byId('filter'));
let before = null;
let answeredAt = null;

await follow();

async function follow() {
  for (;;) {
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const response = await fetch('status.json?distances', { cache: 'no-store', signal });
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      show(await response.json());
    } catch {
      lost();
    }
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
  }
}

function show(report) {
  const rates = before === null ? null : ratesBetween(before, report);
  before = report;
  answeredAt = Date.now();
  byId('lost').hidden = true;
  byId('main').classList.remove('stale');
  setText('version', report.version);
  setText('uptime', `up ${formatDuration(report.uptimeSeconds)}, pid ${report.pid}`);
  showState(report.ready ? 'ready' : 'not ready', report.ready);
  byId('reason').hidden = report.reason === null;
  setText('reason', report.reason ?? '');
  showTraffic(report, rates?.total ?? null);
  showDrops(report);
  showHost(report);
  showProblems(report);
  peers.show(report, rates);
}

function lost() {
  const since = answeredAt === null ? '' : ` for ${formatDuration((Date.now() - answeredAt) / 1000)}`;
  setText('lost', `Connection lost${since}: flanneld does not answer. Trying again every second.`);
  byId('lost').hidden = false;
  byId('main').classList.add('stale');
  showState('connection lost', false);
  before = null;
  plot.add(Date.now(), null);
}

function showState(text, good) {
  setText('state', text);
  byId('state').className = `state ${good ? 'good' : 'bad'}`;
  document.title = `${text} – flanneld status`;
}

function showTraffic(report, rate) {
  plot.add(Date.now(), rate);
  const total = totalOf(report);
  for (const way of ['Out', 'In']) {
    const bits = rate === null ? NOTHING : formatQuantity(rate[`bits${way}`], 'bit/s');
    const packets = rate === null ? [] : [formatQuantity(rate[`packets${way}`], 'pps')];
    const sum = total === null ? [] : [`${formatQuantity(total[`bytes${way}`], 'B')} in all`];
    setText(`bits-${way.toLowerCase()}`, bits);
    setText(`packets-${way.toLowerCase()}`, [...packets, ...sum].join(', '));
  }
}

function showDrops({ dataplane }) {
  const drops = Object.entries({ ...dataplane?.encap.drops, ...dataplane?.decap.drops });
  const sum = drops.reduce((all, [, count]) => all + count, 0);
  setText('dropped', dataplane === null ? NOTHING : formatQuantity(sum, ''));
  const reasons = drops.sort(([, a], [, b]) => b - a).map(([name, count]) => `${name} ${count}`);
  setText('drop-reasons', reasons.join(', '));
}

function showHost(report) {
  const facts = [
    ['Lease', leaseText(report)],
    ['Reached at', placeText(report)],
    ['Device', report.device && `${report.device.name}, MTU ${report.device.mtu}`],
    ['Traffic rules', report.trafficRules && rulesText(report.trafficRules, report.at)],
    ['Store', storeText(report)],
    ['Features', featuresText(report)],
    ['Dataplane', dataplaneText(report)],
  ];
  fill(
    byId('host'),
    facts
      .filter(([, text]) => text !== null)
      .flatMap(([name, text]) => [element('dt', name), element('dd', text)]),
  );
}

function leaseText({ lease, network, phase, at }) {
  if (lease === null) return `none yet (${phase})`;
  const seconds = (Date.parse(lease.expiresAt ?? at) - Date.parse(at)) / 1000;
  const term = lease.reservation ? 'a reservation' : `runs out in ${formatDuration(seconds)}`;
  const v4 = `${lease.subnet} of ${network?.cidr ?? NOTHING}`;
  const v6 = lease.ipv6Subnet === null ? '' : `, ${lease.ipv6Subnet} of ${network?.ipv6Cidr ?? NOTHING}`;
  return `${v4}${v6}, ${lease.held ? term : 'not held, claiming it again'}`;
}

function placeText({ interface: external, lease }) {
  if (external === null) return null;
  const place = endpointText(external.publicIp, lease?.port ?? null);
  const problem = external.lost ?? (external.running ? null : 'no carrier');
  return [
    `${place} over ${external.name}`,
    `MTU ${external.mtu}`,
    ...(problem === null ? [] : [problem]),
  ].join(', ');
}

function storeText({ store }) {
  if (store === null) return null;
  const [kind] = store.description.split(' with Previous Subnet');
  const time = formatDuration(store.forSeconds);
  if (store.reachable) return `${kind}, reachable for ${time}`;
  const error = store.lastError === null ? '' : `: ${store.lastError}`;
  return `${kind}, away for ${time}${error}${store.hasTable ? '; its last table is in use' : ''}`;
}

function featuresText({ dataplane }) {
  if (dataplane === null) return null;
  const missing = dataplane.missing.length === 0 ? '' : `, without ${dataplane.missing.join(' ')}`;
  return `${dataplane.tier} (${dataplane.features.join(' ') || 'none'}${missing})`;
}

function dataplaneText({ dataplane }) {
  if (dataplane === null) return null;
  const { queues, threads, routes, restarts, failure, standing } = dataplane;
  return [
    `${queues} ${queues === 1 ? 'queue' : 'queues'}`,
    `${threads} threads`,
    `${routes} ${routes === 1 ? 'route' : 'routes'}`,
    ...(standing === 'owner' ? [] : [standing]),
    ...(restarts === 0 ? [] : [`threads restarted ${restarts} times`]),
    ...(failure === null ? [] : [`stopped: ${failure}`]),
  ].join(', ');
}

function showProblems({ problems }) {
  const items = [...problems].reverse().map(({ at, severity, message }) => {
    const item = element('li');
    const time = element('time', at.replace('T', ' ').slice(0, 19));
    time.dateTime = at;
    const kind = element('strong', severity);
    if (severity === 'error') kind.className = 'bad';
    item.append(time, kind, ` ${message}`);
    return item;
  });
  fill(byId('problems'), items.length > 0 ? items : [element('li', 'none')]);
}
