/**
 * ICMP echo to one address: `node ping.js ADDRESS COUNT`. Prints the round-trip times in milliseconds as a JSON
 * array, null for an echo that was not answered in time. Needs CAP_NET_RAW.
 */
import { openEcho } from '../src/echo.js';
import { parseIp4 } from '../src/ip.js';

const ECHO_BYTES = 84;
const TIMEOUT_MS = 1000;

async function main([address = '', count = '5']: readonly string[]): Promise<void> {
  const ip = parseIp4(address);
  if (ip === undefined) throw new Error(`${address} is no IPv4 address`);
  const { echo, reason } = await openEcho(4);
  if (echo === null) throw new Error(reason);
  const times: (number | null)[] = [];
  for (let i = 0; i < Number(count); i++) {
    const result = await echo.ping(ip, { size: ECHO_BYTES, dontFragment: false, timeoutMs: TIMEOUT_MS });
    if (result.outcome === 'unreachable') throw new Error(`${address}: ${result.reason}`);
    times.push(result.outcome === 'reply' ? result.rttMs : null);
  }
  echo.close();
  process.stdout.write(`${JSON.stringify(times)}\n`);
}

await main(process.argv.slice(2));
