/** Pods: network namespaces that are attached to a host's network by CNI plugins. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Host } from '../../bench/topology.js';
import { CniTool } from './cnitool.js';
import type { Attachment, NetworkConf, Result } from './cnitool.js';

const run = promisify(execFile);

/** The network that the manifests set up, with all state in a folder of the test. */
export function networkConf(host: Host, folder: string, cniVersion = '1.0.0'): NetworkConf {
  return {
    cniVersion,
    name: 'cbr0',
    plugins: [
      {
        type: 'flannel',
        subnetFile: join(folder, `${host.name}.env`),
        dataDir: stateFolder(host, folder),
        delegate: { hairpinMode: true, isDefaultGateway: true },
        ipam: { dataDir: leaseFolder(host, folder) },
      },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  };
}

/** The plugin's dataDir. */
export function stateFolder(host: Host, folder: string): string {
  return join(folder, `${host.name}-state`);
}

/** The dataDir of host-local; its files are in a folder of it with the network's name. */
export function leaseFolder(host: Host, folder: string): string {
  return join(folder, `${host.name}-leases`);
}

/** What a call without a chain takes: the first plugin's own config. */
export function pluginConf(network: NetworkConf, cniVersion = '1.1.0'): Record<string, unknown> {
  return { ...network.plugins[0], name: network.name, cniVersion };
}

/** The pods of one host, and the runtime that makes them. */
export class Pods {
  private readonly namespaces = new Set<string>();

  private constructor(
    readonly network: NetworkConf,
    readonly tool: CniTool,
    private readonly host: Host,
  ) {}

  static async on(host: Host, folder: string): Promise<Pods> {
    return new Pods(networkConf(host, folder), await CniTool.install(host, folder), host);
  }

  attachment(name: string, ports?: Attachment['ports']): Attachment {
    return { id: this.idOf(name), netns: `/run/netns/${this.idOf(name)}`, ...(ports ? { ports } : {}) };
  }

  /** A new namespace, attached. Its address is the first that it got. */
  async create(name: string, ports?: Attachment['ports']): Promise<{ pod: Host; result: Result }> {
    const id = this.idOf(name);
    await run('ip', ['netns', 'add', id]);
    this.namespaces.add(id);
    await run('ip', ['-n', id, 'link', 'set', 'lo', 'up']);
    const result = await this.tool.add(this.network, this.attachment(name, ports));
    return { pod: new Host(id, (result.ips[0]?.address ?? '').replace(/\/.*/, '')), result };
  }

  /** The namespace goes as in a crash: no plugin hears of it. */
  async crash(name: string): Promise<void> {
    const id = this.idOf(name);
    await run('ip', ['netns', 'delete', id]);
    this.namespaces.delete(id);
  }

  async delete(name: string): Promise<void> {
    await this.tool.del(this.network, this.attachment(name));
    await this.crash(name);
  }

  /** Everything, also what tests have broken. */
  async close(): Promise<void> {
    for (const id of [...this.namespaces]) await this.crash(id.slice(this.host.name.length + 1));
    await this.host.exec('sh', '-c', 'ip link delete cni0 2>/dev/null || true');
  }

  private idOf(name: string): string {
    return `${this.host.name}-${name}`;
  }
}
