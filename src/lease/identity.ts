/**
 * Which host a lease belongs to: the one with its public IP, which is the IPv6 one where it has no IPv4 one. Hosts behind one NAT share that and differ by a port
 * of their own, which they announce as `{"Port":N}`; a host without one uses the port of the network config, as
 * all hosts of stock flannel do.
 */
import type { Ip } from '../address.js';
import { decodeField, parseJsonObject, readBool, readUint } from '../gojson.js';
import type { JsonObject, JsonValue } from '../gojson.js';
import { formatIp4 } from '../ip.js';
import type { LeaseAttrs } from './lease.js';

/** What a udp host tells its peers about itself, beside its address. */
export interface Announcement {
  /** Of its own; null: that of the network config. */
  readonly port: number | null;
  /** Whether it answers probes of the path's MTU, and sends such to those that do. */
  readonly probesMtu: boolean;
}

/** The backend data that announces a port of a host's own. */
export function formatOwnPort(port: number): string {
  return `{"Port":${port}}`;
}

/** The backend data of a udp host; null, as stock flannel's, where it has nothing to tell. */
export function formatAnnouncement({ port, probesMtu }: Announcement): string | null {
  if (!probesMtu) return port === null ? null : formatOwnPort(port);
  return port === null ? '{"ProbeMTU":true}' : `{"Port":${port},"ProbeMTU":true}`;
}

/**
 * The port that a udp host announces; null when it names none, or is no udp host.
 * @throws FlannelError when its backend data makes no sense.
 */
export function ownPortOf(attrs: LeaseAttrs): number | null {
  const data = dataOf(attrs);
  if (data === null) return null;
  return decodeField<number | null>(data, 'Port', null, readPort, 'a port number from 1 to 65535');
}

/** Whether a host says that it answers probes of the path's MTU. Whoever says nothing that makes sense does not. */
export function probesMtuOf(attrs: LeaseAttrs): boolean {
  try {
    const data = dataOf(attrs);
    return data !== null && decodeField(data, 'ProbeMTU', false, readBool, 'true or false');
  } catch {
    return false;
  }
}

/** Of a udp host. @throws FlannelError where it is no object. */
function dataOf({ backendType, backendData }: LeaseAttrs): JsonObject | null {
  if (backendData === null || !['', 'udp'].includes(backendType.toLowerCase())) return null;
  return parseJsonObject(backendData, 'BackendData');
}

function readPort(value: JsonValue, before: number | null): number | null | undefined {
  if (value.kind === 'null') return before;
  const port = readUint(value, 0);
  return port !== undefined && port >= 1 && port <= 65535 ? port : undefined;
}

/** True for two announcements of one host. One without an address is nobody's. */
export function sameHost(a: LeaseAttrs, b: LeaseAttrs): boolean {
  if (a.publicIp !== b.publicIp) return false;
  if (a.publicIp === 0 && (a.publicIpV6 === null || a.publicIpV6 !== b.publicIpV6)) return false;
  return portOrNone(a) === portOrNone(b);
}

/** The public IP that tells the host apart from others. */
export function formatPublicIp({ publicIp, publicIpV6 }: LeaseAttrs): string {
  return publicIp === 0 && publicIpV6 !== null ? publicIpV6 : formatIp4(publicIp);
}

/** Where datagrams to the host are sent over an underlay; null where it announces no address of that family. */
export function nextHopOf({ publicIp, publicIpV6 }: LeaseAttrs, underlay: 'ipv4' | 'ipv6'): Ip | null {
  if (underlay === 'ipv6') return publicIpV6;
  return publicIp === 0 ? null : publicIp;
}

/** Whether a host says that its udp backend carries IPv6; stock flannel's takes such packets for IPv4. */
export function carriesIpv6({ backendType, backendV6Data }: LeaseAttrs): boolean {
  return ['', 'udp'].includes(backendType.toLowerCase()) && backendV6Data !== null;
}

function portOrNone(attrs: LeaseAttrs): number | null {
  try {
    return ownPortOf(attrs);
  } catch {
    return null;
  }
}
