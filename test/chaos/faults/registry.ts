import type { Fault } from '../fault.js';
import { ACCESS_FAULTS } from './access.js';
import { HOST_FAULTS } from './hosts.js';
import { LEASE_FAULTS } from './leases.js';
import { MEMBER_FAULTS } from './members.js';
import { WAY_FAULTS } from './ways.js';

/** All there are. */
export const FAULTS: readonly Fault[] = [
  ...WAY_FAULTS,
  ...MEMBER_FAULTS,
  ...LEASE_FAULTS,
  ...ACCESS_FAULTS,
  ...HOST_FAULTS,
];
