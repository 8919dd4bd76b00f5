import { get } from 'node:http';

/**
 * The body of the answer to a GET at a unix socket. Longer than `most` characters it is an error.
 * @throws Error of the socket, with its code, or the signal's.
 */
export function getAtSocket(
  socketPath: string,
  path: string,
  signal: AbortSignal,
  most = Infinity,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get({ socketPath, path, agent: false, signal }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text;
        if (body.length > most) request.destroy(new Error('endless answer'));
      });
      response.once('error', reject);
      response.once('end', () => {
        resolve(body);
      });
    });
    request.once('error', reject);
  });
}
