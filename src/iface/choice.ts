/** What the flags and the network config say about the external interface, read once and checked. */
import { RE2JS } from 're2js';
import type { NetworkConfig } from '../config.js';
import { FlannelError, messageOf } from '../errors.js';
import type { Options } from '../flags.js';
import { parseIp4 } from '../ip.js';
import type { Ip4 } from '../ip.js';
import { canonicalIp6 } from '../ip6.js';
import type { Ip6 } from '../ip6.js';

/** The flags about it as they were given. */
export type InterfaceChoice = Pick<
  Options,
  'iface' | 'ifaceRegex' | 'ifaceCanReach' | 'publicIp' | 'publicIpv6'
>;

/** The families that hosts send to each other by. */
export type Stack = Pick<NetworkConfig, 'enableIPv4' | 'enableIPv6'>;

/** An address of either family; null where there is none. */
export interface Addresses {
  readonly v4: Ip4 | null;
  readonly v6: Ip6 | null;
}

/** One flag that can name an interface. */
export type Rule =
  | { readonly kind: 'address'; readonly flag: string; readonly text: string; readonly ip: Addresses }
  | { readonly kind: 'name'; readonly flag: string; readonly text: string }
  | { readonly kind: 'regex'; readonly flag: string; readonly text: string; readonly pattern: RE2JS }
  | { readonly kind: 'reach'; readonly flag: string; readonly text: string; readonly ip: Addresses };

export interface Wishes {
  /** In the order of preference. */
  readonly rules: readonly Rule[];
  /** What other hosts are to be told. */
  readonly publicIp: Addresses;
}

/** @throws FlannelError that names the value that makes no sense. */
export function readChoice(choice: InterfaceChoice): Wishes {
  const { publicIp, publicIpv6 } = choice;
  const v4 = publicIp === '' ? null : parseIp4(publicIp);
  if (v4 === undefined) {
    throw new FlannelError(`invalid public IP address: ${publicIp}; write --public-ip=192.0.2.1`);
  }
  const v6 = publicIpv6 === '' ? null : canonicalIp6(publicIpv6);
  if (v6 === undefined) {
    throw new FlannelError(`invalid public IPv6 address: ${publicIpv6}; write --public-ipv6=2001:db8::1`);
  }
  const rules = [
    ...choice.iface.map(readIface),
    ...choice.ifaceRegex.map(readRegex),
    ...(choice.ifaceCanReach === '' ? [] : [readReach(choice.ifaceCanReach)]),
  ];
  return { rules, publicIp: { v4, v6 } };
}

function readIface(text: string): Rule {
  const flag = `--iface=${text}`;
  const ip = readAddress(text);
  return ip === null ? { kind: 'name', flag, text } : { kind: 'address', flag, text, ip };
}

/** Go's syntax, which is RE2's: what JavaScript's own expressions know is neither less nor more. */
function readRegex(text: string): Rule {
  try {
    return { kind: 'regex', flag: `--iface-regex=${text}`, text, pattern: RE2JS.compile(text) };
  } catch (error) {
    throw new FlannelError(
      `could not compile the IP address regex '${text}': ${messageOf(error)}; mend --iface-regex`,
      { cause: error },
    );
  }
}

function readReach(text: string): Rule {
  const ip = readAddress(text);
  if (ip === null) {
    throw new FlannelError(`invalid IP address to reach: ${text}; write --iface-can-reach=192.0.2.1`);
  }
  return { kind: 'reach', flag: `--iface-can-reach=${text}`, text, ip };
}

function readAddress(text: string): Addresses | null {
  const v4 = parseIp4(text) ?? null;
  const v6 = v4 === null ? (canonicalIp6(text) ?? null) : null;
  return v4 === null && v6 === null ? null : { v4, v6 };
}
