/** The report as text, for `flanneld status`. Pure: a report, rates and a size in, lines out. */
import { byTraffic, totalOf } from './rates.js';
import type { Rate, Rates } from './rates.js';
import type { DirectionReport, LeaseReport, NetworkReport, PeerReport, StatusReport } from './report.js';
import { fit, fitting, plain, printable, sparkline, tableLines, wrap } from './table.js';
import type { Column, Paint } from './table.js';
import { formatDuration, formatQuantity, formatRtt } from './units.js';
import { endpointText, rulesText } from './wording.js';

export interface View {
  /** Columns of the terminal. */
  readonly width: number;
  /** Lines of the terminal; null shows everything. */
  readonly height: number | null;
  readonly paint: Paint;
  /** Null for one look, which shows what has been carried so far. */
  readonly rates: Rates | null;
  /** Total bits per second of the last looks, oldest first. */
  readonly history: { readonly out: readonly number[]; readonly in: readonly number[] };
}

const NOTHING = '–';
const LABEL = 12;
const SPARK = 24;
/** However low the terminal is. */
const LEAST_PEERS = 3;

/** Everything, in at most `height` lines. */
export function renderStatus(report: StatusReport, view: View): string[] {
  const top = [headline(report, view), ...reasonLines(report, view), '', ...sections(report, view)];
  const bottom = problemLines(report, view);
  const room = view.height === null ? Infinity : view.height - top.length - bottom.length;
  return [...top, ...peerLines(report, view, room), ...bottom];
}

function headline(report: StatusReport, { paint, width }: View): string {
  const state = report.ready ? 'ready' : 'not ready';
  const left = `flanneld ${report.version}`;
  const right = `up ${formatDuration(report.uptimeSeconds)}, pid ${report.pid}`;
  const gap = width - left.length - state.length - right.length - 4;
  const mark = paint(report.ready ? 'green' : 'red', `● ${state}`);
  const end = gap < 2 ? '' : ' '.repeat(gap) + paint('dim', right);
  return `${paint('bold', left)}  ${mark}${end}`;
}

function reasonLines({ reason }: StatusReport, { paint, width }: View): string[] {
  if (reason === null) return [];
  return wrap(printable(reason), width - 2).map((line) => `  ${paint('red', line)}`);
}

/** The subnets of both families, and what they are of. */
function leaseText({ subnet, ipv6Subnet }: LeaseReport, network: NetworkReport | null): string {
  const v4 = `${subnet} of ${network?.cidr ?? NOTHING}`;
  return ipv6Subnet === null ? v4 : `${v4}, ${ipv6Subnet} of ${network?.ipv6Cidr ?? NOTHING}`;
}

function sections(report: StatusReport, view: View): string[] {
  const { at, lease, network, device, interface: external, trafficRules, store, dataplane } = report;
  const now = Date.parse(at);
  const lines = (label: string, text: string) => labelled(label, text, view);
  const shown = [
    ...(lease === null
      ? lines('lease', `none yet (${report.phase})`)
      : lines('lease', `${leaseText(lease, network)}, ${leaseTerm(lease, now)}`)),
  ];
  if (external !== null) {
    const announced = endpointText(external.publicIp, lease?.port ?? null);
    const state = external.lost ?? (external.running ? null : 'no carrier');
    const problem = state === null ? '' : `, ${state}`;
    shown.push(...lines('reached at', `${announced} over ${external.name}, MTU ${external.mtu}${problem}`));
  }
  if (device !== null) {
    const repairs = Object.entries(device.repairs).map(([what, count]) => `${count} × ${what}`);
    const repaired = repairs.length === 0 ? '' : `, somebody changed it ${repairs.join(', ')}`;
    shown.push(...lines('device', `${device.name}, MTU ${device.mtu}${repaired}`));
  }
  // Where the height counts, what is in order has no line to spare.
  if (trafficRules !== null && (view.height === null || trafficRules.lastError !== null)) {
    shown.push(...lines('rules', rulesText(trafficRules, at)));
  }
  if (store !== null) shown.push(...lines('store', storeText(store)));
  if (dataplane !== null) shown.push(...dataplaneLines(dataplane, lines));
  return [...shown, ...trafficLines(report, view)];
}

function labelled(label: string, text: string, { paint, width }: View): string[] {
  const [first = '', ...more] = wrap(printable(text), width - LABEL);
  const indent = ' '.repeat(LABEL);
  return [paint('cyan', label.padEnd(LABEL)) + first, ...more.map((line) => indent + line)];
}

function leaseTerm({ expiresAt, renewsAt, reservation, held }: LeaseReport, now: number): string {
  if (!held) return "not this host's in the store, claiming it again";
  if (reservation || expiresAt === null) return 'a reservation';
  const until = (time: string) => formatDuration((Date.parse(time) - now) / 1000);
  const renewal = renewsAt === null ? '' : `, renewal in ${until(renewsAt)}`;
  return `runs out in ${until(expiresAt)}${renewal}`;
}

function storeText(store: NonNullable<StatusReport['store']>): string {
  const { description, reachable, forSeconds, lastError, hasTable, silentSeconds } = store;
  const [kind = ''] = description.split(' with Previous Subnet');
  const since = formatDuration(forSeconds);
  if (reachable) {
    const heard = silentSeconds === null ? '' : `, heard ${formatDuration(silentSeconds)} ago`;
    return `${kind}, reachable for ${since}${heard}`;
  }
  const table = hasTable ? '; its last table is in use' : '';
  return `${kind}, away for ${since}${lastError === null ? '' : `: ${lastError}`}${table}`;
}

function dataplaneLines(
  dataplane: NonNullable<StatusReport['dataplane']>,
  lines: (label: string, text: string) => string[],
): string[] {
  const { tier, features, missing, queues, threads, routes, restarts, standing, stoodBy, failure } =
    dataplane;
  const without = missing.length === 0 ? '' : `, without ${missing.join(' ')}`;
  const shape = `${queues} ${queues === 1 ? 'queue' : 'queues'}, ${threads} threads`;
  const shown = lines('features', `${tier} (${features.join(' ') || 'none'}${without}), ${shape}`);
  const notes = [
    `${routes} ${routes === 1 ? 'route' : 'routes'}`,
    ...(standing === 'owner' ? [] : [standing]),
    ...(stoodBy ? ['a standby is ready'] : []),
    ...(restarts > 0 ? [`threads restarted ${restarts} times`] : []),
    ...(failure === null ? [] : [`stopped: ${failure}`]),
  ];
  return [...shown, ...lines('dataplane', notes.join(', '))];
}

function trafficLines(report: StatusReport, view: View): string[] {
  const total = totalOf(report);
  if (report.dataplane === null || total === null) return [];
  const line = (label: string, bytes: number, packets: number, way: 'out' | 'in') => {
    const rate = view.rates?.total ?? null;
    const text =
      rate === null
        ? `${formatQuantity(bytes, 'B').padStart(11)}  ${formatQuantity(packets, '')} packets`
        : `${rateText(rate, way)}  ${view.paint('green', sparkline(view.history[way], SPARK))}`;
    return view.paint('cyan', label.padEnd(LABEL)) + text;
  };
  return [
    line('out', total.bytesOut, total.packetsOut, 'out'),
    line('in', total.bytesIn, total.packetsIn, 'in'),
    ...dropLines(report.dataplane.encap, report.dataplane.decap, view),
  ];
}

function rateText(rate: Rate, way: 'out' | 'in'): string {
  const [bits, packets] = way === 'out' ? [rate.bitsOut, rate.packetsOut] : [rate.bitsIn, rate.packetsIn];
  return `${formatQuantity(bits, 'bit/s').padStart(11)}  ${formatQuantity(packets, 'pps').padStart(9)}`;
}

function dropLines(encap: DirectionReport, decap: DirectionReport, view: View): string[] {
  const drops = Object.entries({ ...encap.drops, ...decap.drops }).sort(([, a], [, b]) => b - a);
  const text = drops.map(([name, count]) => `${name} ${count}`).join(', ');
  return labelled('dropped', text === '' ? 'none' : text, view);
}

function peerLines(report: StatusReport, view: View, room: number): string[] {
  const { peers, peerCount, rttUnavailable } = report;
  const note = rttUnavailable === null ? '' : `; no round trips: ${rttUnavailable}`;
  const title = fit(`${peerCount} ${peerCount === 1 ? 'peer' : 'peers'}${note}`, view.width);
  const head = ['', view.paint('bold', title)];
  if (peers.length === 0) return head;
  // Blank line, title and titles of the columns stand above the rows.
  const most = Math.max(LEAST_PEERS, room - head.length - 1);
  const shown = peers.length <= most ? peers.length : Math.max(LEAST_PEERS, most - 1);
  const columns = fitting(view.rates === null ? carriedColumns() : rateColumns(view.rates), view.width);
  const rows = byTraffic(peers, view.rates).slice(0, shown);
  const more = peers.length - shown;
  return [
    ...head,
    ...tableLines(columns, rows, view.paint),
    ...(more > 0 ? [view.paint('dim', `… and ${more} more`)] : []),
  ];
}

type PeerColumn = Column<PeerReport>;

function column(
  title: string,
  width: number,
  rank: number,
  cell: PeerColumn['cell'],
  more: Partial<PeerColumn> = {},
): PeerColumn {
  return { title, width, align: 'right', rank, cell, ...more };
}

const orNothing = <T>(value: T | null | undefined, text: (value: T) => string) =>
  value === null || value === undefined ? NOTHING : text(value);

const SUBNET = column('SUBNET', 18, 0, ({ subnet }) => subnet, { align: 'left' });
const ADDRESS = column('PEER', 21, 4, ({ publicIp, port }) => endpointText(publicIp, port), {
  align: 'left',
});
const RTT = column(
  'RTT',
  9,
  2,
  ({ rttMs, answers }) => (answers === false ? 'no answer' : orNothing(rttMs, formatRtt)),
  { style: ({ answers }) => (answers === false ? 'red' : null) },
);
const PATH_MTU = column('MTU', 5, 3, ({ pathMtu }) => orNothing(pathMtu, String));

function carriedColumns(): PeerColumn[] {
  const bytes = (title: string, name: 'bytesOut' | 'bytesIn') =>
    column(title, 8, 1, ({ traffic }) => orNothing(traffic, (figures) => formatQuantity(figures[name], 'B')));
  const packets = (title: string, name: 'packetsOut' | 'packetsIn') =>
    column(title, 8, 5, ({ traffic }) => orNothing(traffic, (figures) => formatQuantity(figures[name], '')));
  const [out, into] = [bytes('OUT', 'bytesOut'), bytes('IN', 'bytesIn')];
  return [
    SUBNET,
    ADDRESS,
    out,
    packets('PACKETS', 'packetsOut'),
    into,
    packets('PACKETS', 'packetsIn'),
    RTT,
    PATH_MTU,
  ];
}

function rateColumns({ peers }: Rates): PeerColumn[] {
  const busy = ({ subnet }: PeerReport) => {
    const rate = peers.get(subnet);
    return rate !== undefined && rate.bitsOut + rate.bitsIn > 0 ? ('bold' as const) : null;
  };
  const figure = (title: string, width: number, rank: number, unit: string, name: keyof Rate) =>
    column(
      title,
      width,
      rank,
      ({ subnet }) => orNothing(peers.get(subnet), (rate) => formatQuantity(rate[name], unit)),
      { style: busy },
    );
  return [
    SUBNET,
    { ...ADDRESS, width: 15, cell: ({ publicIp }) => publicIp },
    figure('OUT', 11, 1, 'bit/s', 'bitsOut'),
    figure('PACKETS', 9, 5, 'pps', 'packetsOut'),
    figure('IN', 11, 1, 'bit/s', 'bitsIn'),
    figure('PACKETS', 9, 5, 'pps', 'packetsIn'),
    RTT,
    PATH_MTU,
  ];
}

function problemLines({ problems, at }: StatusReport, { width, paint }: View): string[] {
  const last = problems.at(-1);
  if (last === undefined) return [];
  const ago = formatDuration((Date.parse(at) - Date.parse(last.at)) / 1000);
  const style = last.severity === 'error' ? 'red' : 'yellow';
  const text = wrap(printable(last.message), width - 2).map((line) => `  ${line}`);
  return ['', paint(style, `last ${last.severity}, ${ago} ago`), ...text];
}

/** One look, without colours. */
export const ONE_LOOK: Pick<View, 'rates' | 'history' | 'height' | 'paint'> = {
  rates: null,
  history: { out: [], in: [] },
  height: null,
  paint: plain,
};
