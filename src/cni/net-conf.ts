/** flannel's own part of the network config. */
import { FlannelError, messageOf } from '../errors.js';
import { decodeField, readString } from '../gojson.js';
import type { JsonObject, JsonValue } from '../gojson.js';
import { CODE, CniError } from './cni-error.js';

/** A JSON object whose members mean something to somebody else. */
export type Dictionary = Readonly<Record<string, unknown>>;

export interface NetConf {
  readonly subnetFile: string;
  /** Where the delegates' configs are kept until DEL, one file a container. */
  readonly dataDir: string;
  readonly delegate: Dictionary;
  readonly ipam: Dictionary;
  /** Null where the runtime gave none. */
  readonly runtimeConfig: Dictionary | null;
  /** What the previous ADD resulted in, as the runtime tells it at CHECK and DEL. */
  readonly prevResult: Dictionary | null;
}

/** @throws CniError that names the field. */
export function readNetConf(config: JsonObject): NetConf {
  try {
    const dictionary = (name: string) => decodeField(config, name, null, readDictionary, 'an object');
    const conf = {
      subnetFile: decodeField(
        config,
        'subnetFile',
        '/run/flannel/subnet.env',
        readString,
        'a path in quotes',
      ),
      dataDir: decodeField(config, 'dataDir', '/var/lib/cni/flannel', readString, 'a path in quotes'),
      delegate: dictionary('delegate') ?? {},
      ipam: dictionary('ipam') ?? {},
      runtimeConfig: dictionary('runtimeConfig'),
      prevResult: dictionary('prevResult'),
    };
    checkDelegate(conf.delegate);
    return conf;
  } catch (error) {
    throw new CniError(CODE.INTERNAL, `failed to load flannel netconf file: ${messageOf(error)}`);
  }
}

function readDictionary(value: JsonValue): Dictionary | null | undefined {
  if (value.kind === 'null') return null;
  return value.kind === 'object' ? (JSON.parse(value.raw) as Dictionary) : undefined;
}

function checkDelegate(delegate: Dictionary): void {
  if ('type' in delegate && typeof delegate.type !== 'string') {
    throw new FlannelError("'delegate' dictionary, if present, must have (string) 'type' field");
  }
  for (const name of ['name', 'ipam']) {
    if (name in delegate) {
      throw new FlannelError(
        `'delegate' dictionary must not have '${name}' field, it'll be set by flannel; remove it`,
      );
    }
  }
}
