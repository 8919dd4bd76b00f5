import { messageOf } from '../errors.js';
import { log } from '../log.js';
import { Alarm } from '../retry.js';
import { writeSubnetFile } from './subnet-file.js';
import type { SubnetFile } from './subnet-file.js';

/** A disk that is full or a folder that is read-only may be mended at any time. */
const RETRY_MS = 5_000;

export interface SubnetFileStatus {
  readonly path: string;
  /** When it was written last, in milliseconds since the epoch; null for never in this run. */
  readonly writtenAt: number | null;
  /** Why the file is not what it should be; null while it is. */
  readonly error: string | null;
}

/**
 * Tells this host's container runtimes about the subnet. They can wait for it, so a failure ends nothing; it is tried
 * again until it works.
 */
export class SubnetFileWriter {
  private writtenAt: number | null = null;
  private error: string | null = 'not written yet';
  private readonly alarm = new Alarm();

  /** @param content what the file has to say at the moment of the call */
  constructor(
    private readonly path: string,
    private readonly content: () => SubnetFile,
    private readonly retryMs = RETRY_MS,
  ) {}

  get status(): SubnetFileStatus {
    const { path, writtenAt, error } = this;
    return { path, writtenAt, error };
  }

  /** Never rejects: run() repeats what fails. */
  async write(): Promise<void> {
    await this.attempt();
    if (this.error !== null) this.alarm.ring();
  }

  /** Repeats what failed. Resolves when `signal` fires. */
  async run(signal: AbortSignal): Promise<void> {
    while (await this.alarm.wait(this.error === null ? null : this.retryMs, signal)) {
      if (this.error !== null) await this.attempt();
    }
  }

  private async attempt(): Promise<void> {
    try {
      await writeSubnetFile(this.path, this.content());
    } catch (error) {
      const text = messageOf(error);
      if (text !== this.error) log.warning(`Failed to write subnet file ${this.path}: ${text}`);
      this.error = text;
      return;
    }
    log.info(`Wrote subnet file to ${this.path}`);
    if (this.writtenAt === null) log.info('flannel is ready');
    this.error = null;
    this.writtenAt = Date.now();
  }
}
