/** What the kernel gives to this process: the TUN driver, capabilities, features of the dataplane. */
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { TIERS } from '../backend/tiers.js';
import { wantedFeatures } from '../backend/udp-settings.js';
import { effectiveCapabilities, FIRST_FREE_PORT, hasCapability } from '../capabilities.js';
import type { Capability } from '../capabilities.js';
import { Dataplane } from '../dataplane.js';
import type { Feature } from '../dataplane.js';
import { codeOf, FlannelError, messageOf } from '../errors.js';
import type { Options } from '../flags.js';
import { error, note, ok, skipped, warning } from './finding.js';
import type { Finding } from './finding.js';
import type { Observed } from './observe.js';

const TUN = '/dev/net/tun';
const LOOPBACK = 0x7f000001;

/** What each feature needs, and what is done without it. */
const FEATURES: Readonly<Record<Feature, { kernel: string; without: string }>> = {
  batch: { kernel: '3.0', without: 'every packet costs a system call' },
  gso: { kernel: '4.18', without: 'every datagram is sent by itself' },
  gro: { kernel: '5.0', without: 'every datagram is received by itself' },
  tso: { kernel: '2.6.27', without: 'TCP passes the TUN device packet by packet' },
  uso: { kernel: '6.2', without: 'UDP passes the TUN device packet by packet' },
};

export function checkTun(): Finding {
  const id = 'tun-device';
  try {
    closeSync(openSync(TUN, 'r+'));
    return ok(id, `${TUN} can be opened`);
  } catch (cause) {
    const code = codeOf(cause) ?? messageOf(cause);
    const why = 'the overlay is a TUN device: without one flanneld does not start';
    if (code === 'ENOENT' && canBeMade()) return note(id, `there is no ${TUN}: flanneld will make it`);
    if (code === 'EACCES' || code === 'EPERM') {
      if (!isRoot()) return skipped(id, `${TUN} is not open to this user`, 'run doctor as root');
      return error(id, `${TUN} cannot be opened (${code})`, why, `chmod 0666 ${TUN}`);
    }
    const remedy = `modprobe tun; in a container pass the device in (docker run --device ${TUN})`;
    return error(id, `there is no TUN driver behind ${TUN} (${code})`, why, remedy);
  }
}

/** Whether flanneld would make the node and find the driver behind it. */
function canBeMade(): boolean {
  const isLoaded = /^\s*200 tun$/m.test(readFileSync('/proc/misc', 'utf8'));
  return isLoaded && hasCapability(effectiveCapabilities(), 'CAP_MKNOD');
}

export function checkCapabilities({ port }: Observed): Finding[] {
  const id = 'capabilities';
  const effective = effectiveCapabilities();
  const has = (name: Capability) => hasCapability(effective, name);
  if (effective === 0n && !isRoot()) {
    const text = 'this user has no capabilities, so what flanneld may do cannot be seen';
    return [skipped(id, text, 'run doctor as root, or as the user and with the capabilities of flanneld')];
  }
  const grant = (name: string) =>
    `run flanneld as root, or grant it: AmbientCapabilities=${name} (systemd), --cap-add ${name.replace('CAP_', '')} (docker)`;
  const findings: Finding[] = [];
  if (!has('CAP_NET_ADMIN')) {
    const why = 'without it no TUN device can be made, and no address and route set';
    findings.push(error(id, 'CAP_NET_ADMIN is missing', why, grant('CAP_NET_ADMIN')));
  }
  if (!has('CAP_NET_RAW')) {
    const why = 'ICMP errors do not reach this host, so senders wait where they could give up';
    findings.push(warning(id, 'CAP_NET_RAW is missing', why, grant('CAP_NET_RAW')));
  }
  if (port < FIRST_FREE_PORT && !has('CAP_NET_BIND_SERVICE')) {
    const why = `the UDP port ${port} is below ${FIRST_FREE_PORT}`;
    findings.push(error(id, 'CAP_NET_BIND_SERVICE is missing', why, grant('CAP_NET_BIND_SERVICE')));
  }
  return findings.length > 0 ? findings : [ok(id, 'CAP_NET_ADMIN and CAP_NET_RAW are there')];
}

/** Opens a dataplane of its own for a moment, on the loopback, and looks what the kernel has given it. */
export function checkFeatures(options: Options): Finding[] {
  const id = 'dataplane';
  const wanted = wantedFeatures(options);
  // Opening a dataplane would make it.
  if (!existsSync(TUN)) return [skipped(id, `the features of the kernel cannot be seen: there is no ${TUN}`)];
  let features: readonly Feature[];
  try {
    features = probe(wanted);
  } catch (cause) {
    if (!(cause instanceof FlannelError)) throw cause;
    return [skipped(id, `the features of the kernel cannot be seen: ${cause.message}`)];
  }
  const missing = wanted.filter((feature) => !features.includes(feature));
  const tiers = Object.entries(TIERS).map(([tier, needed]: [string, readonly Feature[]]) => {
    const lacks = needed.filter((feature) => !features.includes(feature));
    return lacks.length === 0 ? tier : `${tier} (lacks ${lacks.join(', ')})`;
  });
  if (missing.length === 0) return [ok(id, `tiers: ${tiers.join(', ')}`)];
  return [note(id, `tiers: ${tiers.join(', ')}`), ...missing.map((feature) => lacking(id, feature, options))];
}

function lacking(id: string, feature: Feature, { dataplaneTier }: Options): Finding {
  const { kernel, without } = FEATURES[feature];
  const found = `the kernel does not give ${feature}`;
  const since = `Linux ${kernel} and later have it; look for a seccomp profile that refuses it`;
  if (dataplaneTier !== 'auto') {
    const why = `--dataplane-tier=${dataplaneTier} asks for it, so flanneld does not start`;
    return error(id, found, why, `--dataplane-disable=${feature}, or --dataplane-tier=auto; ${since}`);
  }
  return warning(id, found, `slower: ${without}`, since);
}

function probe(features: readonly Feature[]): readonly Feature[] {
  const dataplane = new Dataplane({
    tunName: 'flandoctor%d',
    features,
    required: false,
    threads: 'single',
    queues: 1,
    sourcePorts: 1,
    sourceCheck: 'none',
    bindAddress: LOOPBACK,
    port: 0,
    receiveBuffer: 0,
    sendBuffer: 0,
    tunnelAddress: LOOPBACK,
    tunnelAddress6: null,
    clampMtu: 0,
    probeMtu: false,
    controlSocket: null,
    generation: 0,
  });
  try {
    return dataplane.stats().features;
  } finally {
    dataplane.close();
  }
}

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}
