import { compactJson, decodeField, parseJsonObject, readString } from '../gojson.js';
import type { JsonValue } from '../gojson.js';
import { formatIp4, parseIp4 } from '../ip.js';
import { canonicalIp6 } from '../ip6.js';
import type { LeaseAttrs } from './lease.js';

/**
 * The value under a subnet key, byte for byte as every flanneld writes it: members in this order, the optional
 * ones only when they hold something.
 * @throws FlannelError when the backend data is not JSON.
 */
export function formatLeaseValue(attrs: LeaseAttrs): string {
  const publicIpV6 = attrs.publicIpV6 === null ? 'null' : JSON.stringify(attrs.publicIpV6);
  let value = `{"PublicIP":"${formatIp4(attrs.publicIp)}","PublicIPv6":${publicIpV6}`;
  if (attrs.backendType !== '') value += `,"BackendType":${compactJson(JSON.stringify(attrs.backendType))}`;
  if (attrs.backendData !== null) value += `,"BackendData":${compactJson(attrs.backendData)}`;
  if (attrs.backendV6Data !== null) value += `,"BackendV6Data":${compactJson(attrs.backendV6Data)}`;
  return `${value}}`;
}

/**
 * Reads the value under a subnet key. A missing PublicIP is 0.0.0.0, and a null in place of backend data is none.
 * @throws FlannelError that says which member is wrong and what was expected.
 */
export function parseLeaseValue(text: string): LeaseAttrs {
  const value = parseJsonObject(text, 'lease value');
  return {
    publicIp: decodeField(value, 'PublicIP', 0, readIp4, 'an IPv4 address in quotes'),
    publicIpV6: decodeField(value, 'PublicIPv6', null, readIp6, 'an IPv6 address in quotes or null'),
    backendType: decodeField(value, 'BackendType', '', readString, 'a string'),
    backendData: decodeField(value, 'BackendData', null, readRaw, 'JSON'),
    backendV6Data: decodeField(value, 'BackendV6Data', null, readRaw, 'JSON'),
  };
}

function readIp4(json: JsonValue): number | undefined {
  return json.kind === 'string' ? parseIp4(json.value) : undefined;
}

function readIp6(json: JsonValue): string | null | undefined {
  if (json.kind === 'null') return null;
  return json.kind === 'string' ? canonicalIp6(json.value) : undefined;
}

function readRaw(json: JsonValue): string | null {
  return json.kind === 'null' ? null : json.raw;
}
