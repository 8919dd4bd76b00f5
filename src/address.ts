/** Addresses of either family: a number is IPv4, a text IPv6. */
import { formatIp4 } from './ip.js';
import type { Cidr4, Ip4 } from './ip.js';
import type { Cidr6, Ip6 } from './ip6.js';

export type Ip = Ip4 | Ip6;
export type Cidr = Cidr4 | Cidr6;

export function formatIp(ip: Ip): string {
  return typeof ip === 'number' ? formatIp4(ip) : ip;
}

/** `a.b.c.d:port`, `[a::b]:port`. */
export function formatEndpoint(ip: Ip, port: number): string {
  return typeof ip === 'number' ? `${formatIp4(ip)}:${port}` : `[${ip}]:${port}`;
}
