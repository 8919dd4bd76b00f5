/**
 * The packet forwarder as a library: a TUN device, its UDP sockets and the threads between them, without any store.
 * Whoever embeds it makes a Dataplane, gives the device its addresses, sets the routes, and starts it.
 */
export { counters, Dataplane, histograms } from './dataplane.js';
export type {
  CounterInfo,
  DataplaneOptions,
  Feature,
  HistogramInfo,
  PeerTraffic,
  Route,
  SourceCheck,
  Stats,
} from './dataplane.js';
export { FlannelError } from './errors.js';
export { Cidr4, formatIp4, parseIp4 } from './ip.js';
export type { Ip4 } from './ip.js';
