import { FlannelError } from '../errors.js';
import type { BackendFactory } from './backend.js';
import { createUdpBackend } from './udp.js';

const BACKENDS: ReadonlyMap<string, BackendFactory> = new Map([['udp', createUdpBackend]]);

/** @throws FlannelError that lists the known backends. */
export function findBackend(type: string): BackendFactory {
  const factory = BACKENDS.get(type);
  if (factory === undefined) {
    const known = [...BACKENDS.keys()].join(', ');
    throw new FlannelError(
      `unknown backend type: ${type}; supported: ${known} (set Backend.Type in the network config, or --backend)`,
    );
  }
  return factory;
}
