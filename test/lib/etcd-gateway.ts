/**
 * etcd over its JSON gateway: none of the code under test, and cheap enough for a thousand changes a second. Goes to
 * any member that answers, and logs in where that is asked for.
 */

/** A key and its value; 64-bit integers are decimal text. */
export interface StoredValue {
  readonly key: string;
  readonly value: string;
  /** Of its etcd lease; '0' for none. */
  readonly lease: string;
}

/** One change: a value of null deletes. */
export interface Change {
  readonly key: string;
  readonly value: string | null;
  readonly lease?: string;
}

export interface Account {
  readonly name: string;
  readonly password: string;
}

interface RawValue {
  readonly key: string;
  readonly value?: string;
  readonly lease?: string;
}

const ANSWER_MS = 2_000;
const DONE = 'already exists';
const LOGIN = /user name is empty|invalid auth token|revision of auth store is old/;

export class EtcdGateway {
  private token = '';
  private preferred = 0;

  /** @param account used where the cluster asks for one */
  constructor(
    private readonly endpoints: readonly string[],
    private readonly account: Account,
  ) {}

  async put(key: string, value: string, lease = '0'): Promise<void> {
    await this.call('kv/put', { key: base64(key), value: base64(value), lease });
  }

  async delete(key: string): Promise<void> {
    await this.call('kv/deleterange', { key: base64(key) });
  }

  async deletePrefix(prefix: string): Promise<void> {
    await this.call('kv/deleterange', { key: base64(prefix), range_end: base64(end(prefix)) });
  }

  /** All at one revision; at most 128, each for another key. */
  async change(changes: readonly Change[]): Promise<void> {
    const success = changes.map(({ key, value, lease = '0' }) =>
      value === null
        ? { request_delete_range: { key: base64(key) } }
        : { request_put: { key: base64(key), value: base64(value), lease } },
    );
    await this.call('kv/txn', { success });
  }

  async list(prefix: string): Promise<StoredValue[]> {
    const { kvs = [] } = await this.call<{ kvs?: RawValue[] }>('kv/range', {
      key: base64(prefix),
      range_end: base64(end(prefix)),
    });
    return kvs.map(({ key, value = '', lease = '0' }) => ({ key: text(key), value: text(value), lease }));
  }

  /** The id of a new etcd lease. */
  async grant(seconds: number): Promise<string> {
    return (await this.call<{ ID: string }>('lease/grant', { TTL: String(seconds) })).ID;
  }

  async revoke(lease: string): Promise<void> {
    await this.call('lease/revoke', { ID: lease });
  }

  /** Forgets the whole history. */
  async compact(): Promise<void> {
    const { header } = await this.call<{ header: { revision: string } }>('kv/range', { key: base64('-') });
    await this.call('kv/compaction', { revision: header.revision, physical: true });
  }

  /**
   * Any call, by its path below `/v3/`.
   * @throws Error when no member answers in 2 s each, or one refuses.
   */
  async call<T = unknown>(path: string, request: object): Promise<T> {
    for (let tries = 0; ; tries++) {
      try {
        return await this.post<T>(path, request);
      } catch (error) {
        // By the try before, whose answer has not come.
        if (tries > 0 && error instanceof Refusal && error.message.includes(DONE)) return {} as T;
        if (LOGIN.test(String(error)) && tries <= this.endpoints.length) await this.logIn();
        else if (error instanceof Refusal || tries >= this.endpoints.length) throw error;
        else this.preferred = (this.preferred + 1) % this.endpoints.length;
      }
    }
  }

  private async logIn(): Promise<void> {
    this.token = '';
    this.token = (await this.post<{ token: string }>('auth/authenticate', this.account)).token;
  }

  private async post<T>(path: string, request: object): Promise<T> {
    const response = await fetch(`${this.endpoints[this.preferred] ?? ''}/v3/${path}`, {
      method: 'POST',
      body: JSON.stringify(request),
      headers: this.token === '' ? {} : { Authorization: this.token },
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    const answer = (await response.json()) as T & { error?: string };
    if (response.ok) return answer;
    // 503: no leader, or not yet.
    const words = `etcd refuses ${path}: ${answer.error ?? response.status}`;
    throw response.status === 503 ? new Error(words) : new Refusal(words);
  }
}

/** The store's own No, for which another member would be of no use. */
class Refusal extends Error {}

function base64(plain: string): string {
  return Buffer.from(plain).toString('base64');
}

function text(encoded: string): string {
  return Buffer.from(encoded, 'base64').toString();
}

/** The first key that does not begin with `prefix`. */
function end(prefix: string): string {
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}
