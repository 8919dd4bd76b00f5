/** What a node's flanneld announces: the annotations that stand for a lease's attributes. */
import type { NetworkConfig } from '../../config.js';
import { FlannelError } from '../../errors.js';
import { formatIp4, parseIp4 } from '../../ip.js';
import { canonicalIp6 } from '../../ip6.js';
import type { LeaseAttrs } from '../../lease/lease.js';
import type { AnnotationNames } from './annotations.js';
import { textOf } from './json.js';
import type { JsonFields } from './json.js';

/** A node, of which nothing else matters here. */
interface Annotated {
  readonly annotations: JsonFields;
}

/** Annotations by name; null for one that must not be there. */
export type Announcement = Readonly<Record<string, string | null>>;

/** What the annotations of a node say. @throws FlannelError without a public IP, and for one that is none. */
export function announcedBy(
  { annotations }: Annotated,
  names: AnnotationNames,
  { enableIPv4 }: Pick<NetworkConfig, 'enableIPv4'>,
): LeaseAttrs {
  const refuse = (name: string, family: string) =>
    new FlannelError(
      `its annotation ${name} is ${JSON.stringify(annotations[name] ?? null)}, which is no ${family} address`,
    );
  const given = textOf(annotations[names.publicIp]);
  const publicIp = given === '' || !enableIPv4 ? 0 : parseIp4(given);
  const publicIpV6 = canonicalIp6(textOf(annotations[names.publicIpV6])) ?? null;
  if (publicIp === undefined || (publicIp === 0 && publicIpV6 === null)) {
    throw enableIPv4 ? refuse(names.publicIp, 'IPv4') : refuse(names.publicIpV6, 'IPv6');
  }
  return {
    publicIp,
    publicIpV6,
    backendType: textOf(annotations[names.backendType]),
    backendData: dataOf(annotations[names.backendData]),
    backendV6Data: dataOf(annotations[names.backendV6Data]),
  };
}

/** Raw JSON; the text `null` where a backend has none. */
function dataOf(value: unknown): string | null {
  const text = textOf(value);
  return text === '' || text === 'null' ? null : text;
}

/**
 * The annotations that make others see `attrs`. An operator's overwrites take precedence, whatever they are. What an
 * earlier flanneld has left about a family that is not carried any more must go: others would send to it.
 */
export function annotationsFor(
  { publicIp, publicIpV6, backendType, backendData, backendV6Data }: LeaseAttrs,
  { annotations }: Annotated,
  names: AnnotationNames,
): Announcement {
  const orOverwrite = (ip: string, overwrite: string) => textOf(annotations[overwrite]) || ip;
  const hasV6 = publicIpV6 !== null || backendV6Data !== null;
  const wanted = {
    [names.manager]: 'true',
    [names.backendType]: backendType,
    [names.backendData]: backendData ?? 'null',
    [names.publicIp]: publicIp === 0 ? null : orOverwrite(formatIp4(publicIp), names.publicIpOverwrite),
    [names.backendV6Data]: hasV6 ? (backendV6Data ?? 'null') : null,
    [names.publicIpV6]: publicIpV6 === null ? null : orOverwrite(publicIpV6, names.publicIpV6Overwrite),
  };
  return Object.fromEntries(
    Object.entries(wanted).filter(([name, value]) => value !== null || name in annotations),
  );
}

/** Whether the node says all of this. */
export function hasAnnotations({ annotations }: Annotated, wanted: Announcement): boolean {
  return Object.entries(wanted).every(([name, value]) => (annotations[name] ?? null) === value);
}
