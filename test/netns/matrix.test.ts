/** A few cells of the matrix, in which each tier, size and pair of families comes at least once. */
import { testCells } from '../lib/matrix.js';

testCells([
  { tier: 'full', underlay: 576, outer: 4, inner: 4 },
  { tier: 'full', underlay: 576, outer: 6, inner: 4 },
  { tier: 'udp-offload', underlay: 1280, outer: 4, inner: 4 },
  { tier: 'full', underlay: 1280, outer: 4, inner: 6 },
  { tier: 'basic', underlay: 1280, outer: 6, inner: 6 },
  { tier: 'basic', underlay: 1500, outer: 4, inner: 6 },
  { tier: 'batch', underlay: 1500, outer: 6, inner: 4 },
  { tier: 'full', underlay: 1500, outer: 6, inner: 6 },
  { tier: 'udp-offload', underlay: 9000, outer: 4, inner: 6 },
  { tier: 'batch', underlay: 9000, outer: 6, inner: 6 },
  { tier: 'full', underlay: 65520, outer: 4, inner: 6 },
  { tier: 'udp-offload', underlay: 65520, outer: 6, inner: 6 },
]);
