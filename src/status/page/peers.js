/** The table of peers. */
import { element, fill } from './dom.js';
import { byTraffic } from './rates.js';
import { formatQuantity, formatRtt } from './units.js';
import { endpointText } from './wording.js';

/** A longer table helps nobody; the field above it finds the others. */
const MOST_ROWS = 100;
const NOTHING = '–';

const carried = (title, name) => ({
  title,
  text: ({ traffic }) => (traffic === null ? NOTHING : formatQuantity(traffic[name], 'B')),
  value: ({ traffic }) => traffic?.[name] ?? -1,
});
const perSecond = (title, name, unit) => ({
  title,
  text: ({ subnet }, rates) => {
    const rate = rates?.peers.get(subnet);
    return rate === undefined ? NOTHING : formatQuantity(rate[name], unit);
  },
  value: ({ subnet }, rates) => rates?.peers.get(subnet)?.[name] ?? -1,
});

/** What each column shows, and what it is sorted by. */
const COLUMNS = [
  { title: 'Subnet', text: ({ subnet }) => subnet, value: ({ subnet }) => sortable(subnet) },
  {
    title: 'Peer',
    text: ({ publicIp, port }) => endpointText(publicIp, port),
    value: ({ publicIp }) => sortable(publicIp),
  },
  perSecond('Out', 'bitsOut', 'bit/s'),
  perSecond('In', 'bitsIn', 'bit/s'),
  perSecond('PPS out', 'packetsOut', ''),
  perSecond('PPS in', 'packetsIn', ''),
  carried('Sent', 'bytesOut'),
  carried('Received', 'bytesIn'),
  {
    title: 'RTT',
    text: ({ rttMs }) => (rttMs === null ? NOTHING : formatRtt(rttMs)),
    value: ({ rttMs }) => rttMs ?? Infinity,
  },
  {
    title: 'Path MTU',
    text: ({ pathMtu }) => (pathMtu === null ? NOTHING : String(pathMtu)),
    value: ({ pathMtu }) => pathMtu ?? 0,
  },
  {
    title: 'Echo',
    text: ({ answers }) => (answers === null ? NOTHING : answers ? '● ok' : '○ lost'),
    value: ({ answers }) => Number(answers ?? -1),
    mark: ({ answers }) => (answers === null ? '' : answers ? 'good' : 'bad'),
  },
];

export class PeerTable {
  #table;
  #filter;
  #column = null;
  #ascending = false;
  #report = null;
  #rates = null;

  constructor(table, filter) {
    this.#table = table;
    this.#filter = filter;
    filter.addEventListener('input', () => this.#draw());
    table.tHead.rows[0].append(...COLUMNS.map((column) => this.#head(column)));
  }

  show(report, rates) {
    this.#report = report;
    this.#rates = rates;
    this.#draw();
  }

  #head(column) {
    const head = element('th');
    head.scope = 'col';
    const button = element('button', column.title);
    button.type = 'button';
    button.addEventListener('click', () => {
      this.#ascending = this.#column === column ? !this.#ascending : column.title === 'Subnet';
      this.#column = column;
      for (const other of head.parentElement.cells) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', this.#ascending ? 'ascending' : 'descending');
      this.#draw();
    });
    head.append(button);
    return head;
  }

  #draw() {
    if (this.#report === null) return;
    const { peers, peerCount, rttUnavailable } = this.#report;
    const wanted = this.#filter.value.trim();
    const [subnet, peer] = COLUMNS;
    const found = peers.filter(
      (each) => subnet.text(each).includes(wanted) || peer.text(each).includes(wanted),
    );
    const rows = this.#sorted(found).slice(0, MOST_ROWS);
    fill(
      this.#table.tBodies[0],
      rows.map((each) => this.#row(each)),
    );
    const all = `${peerCount} ${peerCount === 1 ? 'peer' : 'peers'}`;
    const some = rows.length < peers.length ? `, ${rows.length} of them shown` : '';
    const note = rttUnavailable === null ? '' : `; no round trips: ${rttUnavailable}`;
    this.#table.caption.textContent = all + some + note;
  }

  #row(peer) {
    const row = element('tr');
    for (const { title, text, mark } of COLUMNS) {
      const cell = element(title === 'Subnet' ? 'th' : 'td', text(peer, this.#rates));
      if (title === 'Subnet') cell.scope = 'row';
      if (mark !== undefined) cell.className = mark(peer);
      row.append(cell);
    }
    return row;
  }

  #sorted(peers) {
    if (this.#column === null) return byTraffic(peers, this.#rates);
    const value = (peer) => this.#column.value(peer, this.#rates);
    const sign = this.#ascending ? 1 : -1;
    return [...peers].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return sign * (x < y ? -1 : x > y ? 1 : 0);
    });
  }
}

/** Addresses in their numeric order. */
function sortable(address) {
  return address.replace(/\d+/g, (digits) => digits.padStart(3, '0'));
}
