/** ICMP echo over the overlay: which hosts answer, and packets of which size pass. */
import { openEcho } from '../echo.js';
import type { Echo } from '../echo.js';
import { OUTER_HEADERS } from '../backend/udp-place.js';
import { formatIp4 } from '../ip.js';
import type { Ip4 } from '../ip.js';
import { formatPublicIp } from '../lease/identity.js';
import type { LeaseAttrs } from '../lease/lease.js';
import { error, ok, skipped, warning } from './finding.js';
import type { Finding } from './finding.js';
import type { Observed } from './observe.js';
import { peersOf } from './peers-of.js';

const ID = 'peers';
const SMALL = 64;
const TIMEOUT_MS = 1000;
const TRIES = 2;
const AT_ONCE = 32;
/** What every path has to carry; below it nothing is looked for. */
const LEAST_MTU = 68;
/** The sweep waits for as long as the small echo lets expect, within bounds. */
const LEAST_TIMEOUT_MS = 400;
const PATIENCE = 20;

export async function checkPeers(observed: Observed): Promise<Finding[]> {
  const { owner } = observed;
  const leases = peersOf(observed);
  const peers = leases.flatMap(({ subnet: { v4 }, attrs }) =>
    v4 === null ? [] : [{ ip: v4.network().ip, attrs }],
  );
  if (!owner.alive || owner.device === null) {
    return [skipped(ID, 'no flanneld runs here, so there is no overlay to send over')];
  }
  if (leases.length === 0) return [skipped(ID, 'no other host has a lease')];
  if (peers.length === 0) {
    return [
      skipped(ID, 'the overlay has no IPv4, by which other hosts are asked', 'ping -6 their addresses'),
    ];
  }
  const { echo, reason } = await openEcho(4);
  if (echo === null) return [skipped(ID, reason)];
  const findings: Finding[] = [];
  try {
    for (let at = 0; at < peers.length; at += AT_ONCE) {
      const some = peers.slice(at, at + AT_ONCE);
      const mtu = owner.device.mtu;
      const outer = OUTER_HEADERS[observed.underlay];
      findings.push(...(await Promise.all(some.map((peer) => checkPeer(echo, peer, mtu, outer)))));
    }
  } finally {
    echo.close();
  }
  return findings;
}

/** A peer by its address in the overlay. */
interface Peer {
  readonly ip: Ip4;
  readonly attrs: LeaseAttrs;
}

async function checkPeer(echo: Echo, { ip, attrs }: Peer, mtu: number, outer: number): Promise<Finding> {
  const name = `${formatIp4(ip)} (host ${formatPublicIp(attrs)})`;
  const first = await reaches(echo, ip, SMALL, TIMEOUT_MS);
  if (first === null) {
    return error(
      ID,
      `${name} does not answer over the overlay`,
      'its containers and those of this host do not reach each other',
      `look whether that host is up and runs flanneld, and run \`flanneld doctor\` there; ping ${formatPublicIp(attrs)} from here`,
    );
  }
  const largest = await sweep(
    echo,
    ip,
    mtu,
    Math.min(TIMEOUT_MS, Math.max(LEAST_TIMEOUT_MS, first * PATIENCE)),
  );
  if (largest === mtu) return ok(ID, `${name} answers in ${first.toFixed(1)} ms, up to ${mtu} bytes`);
  return warning(
    ID,
    `${name} answers, but only up to ${largest} bytes of the ${mtu} that the overlay has`,
    'larger packets of its containers are lost, so connections stand still once they carry data',
    'give all hosts one MTU that the network between them carries: ip link set dev INTERFACE mtu ' +
      `${largest + outer} here and there (the overlay follows), or raise what is narrower`,
  );
}

/** The largest packet that comes back whole; sizes below the device's MTU by halves. */
async function sweep(echo: Echo, ip: Ip4, mtu: number, timeoutMs: number): Promise<number> {
  if ((await reaches(echo, ip, mtu, timeoutMs)) !== null) return mtu;
  let [passes, fails] = [LEAST_MTU, mtu];
  while (fails - passes > 1) {
    const size = (passes + fails) >> 1;
    if ((await reaches(echo, ip, size, timeoutMs)) !== null) passes = size;
    else fails = size;
  }
  return passes;
}

/** Milliseconds to an answer; null for none. */
async function reaches(echo: Echo, ip: Ip4, size: number, timeoutMs: number): Promise<number | null> {
  for (let tries = 0; tries < TRIES; tries++) {
    const result = await echo.ping(ip, { size, dontFragment: true, timeoutMs });
    if (result.outcome === 'reply') return result.rttMs;
    if (result.outcome === 'too big') return null;
  }
  return null;
}
