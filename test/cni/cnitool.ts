/** A runtime as small as can be: runs chains of CNI plugins on a host, handing results on as libcni does. */
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { symlink, mkdir } from 'node:fs/promises';
import type { Host } from '../../bench/topology.js';

const PLUGIN = fileURLToPath(new URL('../../cni/flannel.cjs', import.meta.url));
/** Where Debian has the reference plugins. */
const REFERENCE_PLUGINS = '/usr/lib/cni';

export type Command = 'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC' | 'VERSION';

export interface PluginConf {
  readonly type: string;
  readonly [key: string]: unknown;
}

export interface NetworkConf {
  readonly cniVersion: string;
  readonly name: string;
  readonly plugins: readonly PluginConf[];
}

/** What ADD prints, as far as tests look at it. */
export interface Result {
  readonly cniVersion: string;
  readonly interfaces: readonly { readonly name: string; readonly sandbox?: string }[];
  readonly ips: readonly { readonly address: string; readonly gateway?: string }[];
  readonly routes?: readonly { readonly dst: string }[];
}

/** What a plugin prints when it fails. */
export class PluginError extends Error {
  constructor(
    readonly plugin: string,
    readonly cniVersion: string,
    readonly code: number,
    readonly msg: string,
    readonly details: string,
  ) {
    super(`${plugin}: ${msg} (code ${code}) ${details}`);
  }
}

/** A container's attachment. `netns` is null once the namespace is gone. */
export interface Attachment {
  readonly id: string;
  readonly netns: string | null;
  readonly ports?: readonly Readonly<Record<string, unknown>>[];
}

export class CniTool {
  private readonly results = new Map<string, Result>();

  private constructor(
    private readonly host: Host,
    /** CNI_PATH: this plugin under its name, then the real ones. */
    private readonly path: string,
  ) {}

  /** `folder` is the test's; the plugin is installed in it. */
  static async install(host: Host, folder: string): Promise<CniTool> {
    const bin = join(folder, `${host.name}-cni`);
    await mkdir(bin, { recursive: true });
    await symlink(PLUGIN, join(bin, 'flannel'));
    return new CniTool(host, `${bin}:${REFERENCE_PLUGINS}`);
  }

  /** The chain in order, each with its predecessor's result. */
  async add(network: NetworkConf, attachment: Attachment): Promise<Result> {
    let prevResult: Result | undefined;
    for (const plugin of network.plugins) {
      prevResult = await this.attach('ADD', network, plugin, attachment, prevResult);
    }
    if (prevResult === undefined) throw new Error('a network needs a plugin');
    this.results.set(attachment.id, prevResult);
    return prevResult;
  }

  async check(network: NetworkConf, attachment: Attachment): Promise<void> {
    const result = this.results.get(attachment.id);
    for (const plugin of network.plugins) await this.attach('CHECK', network, plugin, attachment, result);
  }

  /** The chain backwards. The result of ADD is forgotten, as a runtime forgets it. */
  async del(network: NetworkConf, attachment: Attachment): Promise<void> {
    const result = this.results.get(attachment.id);
    for (const plugin of [...network.plugins].reverse()) {
      await this.attach('DEL', network, plugin, attachment, result);
    }
    this.results.delete(attachment.id);
  }

  /** One call of the plugin `flannel`, for commands that are of no container. */
  async ask(command: 'STATUS' | 'GC', config: Readonly<Record<string, unknown>>): Promise<string> {
    return this.call('flannel', { CNI_COMMAND: command, CNI_PATH: this.path }, config);
  }

  private async attach(
    command: Command,
    { name, cniVersion }: NetworkConf,
    { capabilities, ...plugin }: PluginConf,
    { id, netns, ports }: Attachment,
    prevResult: Result | undefined,
  ): Promise<Result | undefined> {
    const env = {
      CNI_COMMAND: command,
      CNI_PATH: this.path,
      CNI_CONTAINERID: id,
      CNI_IFNAME: 'eth0',
      CNI_NETNS: netns ?? '',
    };
    const runtimeConfig =
      capabilities !== undefined && ports !== undefined ? { runtimeConfig: { portMappings: ports } } : {};
    const config = { ...plugin, ...runtimeConfig, name, cniVersion, ...(prevResult ? { prevResult } : {}) };
    const output = await this.call(plugin.type, env, config);
    return output === '' ? undefined : (JSON.parse(output) as Result);
  }

  private async call(
    type: string,
    env: Readonly<Record<string, string>>,
    config: Readonly<Record<string, unknown>>,
  ): Promise<string> {
    const find =
      'IFS=:; for folder in $CNI_PATH; do [ -x "$folder/$0" ] && exec "$folder/$0"; done; exit 127';
    const child = this.host.spawn('sh', ['-c', find, type], {
      env: { PATH: process.env.PATH, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const texts = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.setEncoding('utf8').on('data', (text: string) => (texts[name] += text));
    }
    child.stdin?.end(JSON.stringify(config));
    await once(child, 'close');
    if (child.exitCode === 0) return texts.stdout.trim();
    throw pluginError(type, texts.stdout, texts.stderr);
  }
}

function pluginError(type: string, stdout: string, stderr: string): Error {
  try {
    const { cniVersion = '', code, msg, details = '' } = JSON.parse(stdout) as Partial<PluginError>;
    if (code !== undefined && msg !== undefined) return new PluginError(type, cniVersion, code, msg, details);
  } catch {
    // Told with what there is.
  }
  return new Error(`${type} failed without a CNI error: ${stdout} ${stderr}`);
}
