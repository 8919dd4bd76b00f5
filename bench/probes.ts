/** Measurements between two hosts of a topology, made by processes inside them. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { StreamFigures } from './tcp.js';
import type { Host } from './topology.js';

const script = (name: string) => fileURLToPath(new URL(`./${name}.js`, import.meta.url));

/** How much a stream carries: for so many seconds, or so many bytes. */
export type StreamLength = { readonly seconds: number } | { readonly bytes: number };

/** Round-trip times in milliseconds; null for an echo without an answer. @throws Error when none can be sent. */
export async function ping(from: Host, address: string, count: number): Promise<(number | null)[]> {
  try {
    const { stdout } = await from.exec(process.execPath, script('ping'), address, String(count));
    return JSON.parse(stdout) as (number | null)[];
  } catch (error) {
    if (!String(error).includes('the package raw-socket')) throw error;
    return pingCommand(from, address, count);
  }
}

/** The same by ping(8), where the raw-socket package could not be installed. */
async function pingCommand(from: Host, address: string, count: number): Promise<(number | null)[]> {
  const args = ['-n', '-i', '0.05', '-W', '1', '-c', String(count), address];
  const { stdout } = await from.exec('sh', '-c', `ping ${args.join(' ')} || [ $? -eq 1 ]`);
  const times: (number | null)[] = [...stdout.matchAll(/time=([\d.]+) ms/g)].map((match) => Number(match[1]));
  return [...times, ...Array<null>(Math.max(0, count - times.length)).fill(null)];
}

/**
 * One TCP stream; both ends' figures.
 * @throws Error when an end fails or the ends do not agree about the payload.
 */
export async function tcpStream(
  from: Host,
  to: Host,
  address: string,
  length: StreamLength,
): Promise<{ readonly sent: StreamFigures; readonly received: StreamFigures }> {
  const sink = to.spawn(process.execPath, [script('tcp'), 'sink', address], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (sink.stdout === null) throw new Error('the sink has no output');
  const closed = once(sink, 'close');
  try {
    const lines = createInterface(sink.stdout)[Symbol.asyncIterator]();
    const port = (await lines.next()).value as string | undefined;
    if (port === undefined) throw new Error(`no TCP sink could be started on ${to.name}`);
    const amount = 'bytes' in length ? ['--bytes', length.bytes] : ['--seconds', length.seconds];
    const { stdout } = await from.exec(
      process.execPath,
      script('tcp'),
      'source',
      address,
      port,
      ...amount.map(String),
    );
    const sent = JSON.parse(stdout) as StreamFigures;
    const received = JSON.parse(((await lines.next()).value as string | undefined) ?? '{}') as StreamFigures;
    if (sent.sha256 !== received.sha256 || sent.bytes !== received.bytes) {
      throw new Error(
        `${from.name} sent ${sent.bytes} bytes (sha256 ${sent.sha256}), ` +
          `but ${to.name} received ${received.bytes} (${received.sha256})`,
      );
    }
    return { sent, received };
  } finally {
    sink.kill();
    await closed;
  }
}
