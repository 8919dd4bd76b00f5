/**
 * A cluster for the tests: the API server in the lab, hosts that are its nodes, each with a way of its own to it and
 * with the service account of the manifest.
 */
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import type { Daemon } from '../../bench/daemon.js';
import { GATEWAY } from '../../bench/topology.js';
import { eventually } from '../lib/eventually.js';
import { KubeApiServer } from '../lib/kube-apiserver.js';
import type { KubeObject } from '../lib/kube-apiserver.js';
import { CONFIG, TestNetwork } from '../lib/network.js';
import type { NetConf } from '../lib/network.js';
import { PeerTable } from '../lib/peer-table.js';
import { TcpProxy } from '../lib/tcp-proxy.js';

export const NODES = '/api/v1/nodes';
export const PREFIX = 'flannel.alpha.coreos.com/';
const NAMESPACE = 'kube-flannel';
const ACCOUNT = `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/flannel`;
const SECRETS = `/api/v1/namespaces/${NAMESPACE}/secrets`;
const RBAC = '/apis/rbac.authorization.k8s.io/v1';
const BINDING = `${RBAC}/clusterrolebindings/flannel`;
/** Fault to healthy. */
export const HEALED_MS = 10_000;

/** The manifest that users apply: the permissions are those that it gives. */
const MANIFEST = fileURLToPath(new URL('../../../deploy/kube-flannel.yml', import.meta.url));

/** In a mount namespace: what the manifest and kubelet mount into the pod, then the command that follows. */
const POD_FILES = `
mount -t tmpfs tmpfs /run
cp -a /etc /run/etc && mkdir /run/etc/kube-flannel && cp "$1/net-conf.json" /run/etc/kube-flannel/
mount --bind /run/etc /etc
account=/var/run/secrets/kubernetes.io/serviceaccount
mkdir -p $account && cp "$1/ca.crt" $account/ && cp "$2" $account/token
shift 2 && exec "$@"`;

/** Where objects of each kind are created. */
const COLLECTIONS: Readonly<Record<string, string>> = {
  Namespace: '/api/v1/namespaces',
  ServiceAccount: `/api/v1/namespaces/${NAMESPACE}/serviceaccounts`,
  ConfigMap: `/api/v1/namespaces/${NAMESPACE}/configmaps`,
  ClusterRole: `${RBAC}/clusterroles`,
  ClusterRoleBinding: `${RBAC}/clusterrolebindings`,
  DaemonSet: `/apis/apps/v1/namespaces/${NAMESPACE}/daemonsets`,
};

export class Cluster {
  private tokens = 0;

  private constructor(
    readonly network: TestNetwork,
    readonly server: KubeApiServer,
    /** The way of each host to the API server. */
    readonly proxies: readonly TcpProxy[],
  ) {}

  /**
   * @param hosts each is a node, `host1` and so on
   * @param podCidrs of the node of host `number`
   */
  static async create(
    hosts: number,
    config: NetConf = CONFIG,
    podCidrs = (number: number): readonly string[] => [`10.244.${number}.0/24`],
  ): Promise<Cluster> {
    const network = await TestNetwork.create(hosts);
    const server = await KubeApiServer.start(GATEWAY);
    const proxies: TcpProxy[] = [];
    for (let i = 0; i < hosts; i++) proxies.push(await TcpProxy.to(server.port, GATEWAY, GATEWAY));
    const cluster = new Cluster(network, server, proxies);
    try {
      await writeFile(cluster.netConf, JSON.stringify(config));
      await cluster.furnish();
      for (const [i, { name }] of network.topology.hosts.entries()) {
        await cluster.addNode(name, podCidrs(i + 1));
      }
      return cluster;
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  get netConf(): string {
    return join(this.network.folder, 'net-conf.json');
  }

  get tokenFile(): string {
    return join(this.network.folder, 'token');
  }

  /** The file that leads host `number` to the API server, as the service account. */
  async kubeconfig(number: number): Promise<string> {
    const proxy = this.proxies[number - 1];
    assert.ok(proxy);
    const file = join(this.network.folder, `kubeconfig-${number}`);
    const config = {
      'current-context': 'test',
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'flannel' } }],
      clusters: [
        {
          name: 'test',
          cluster: {
            server: `https://${proxy.address}:${proxy.port}`,
            'certificate-authority-data': Buffer.from(this.server.ca).toString('base64'),
          },
        },
      ],
      users: [{ name: 'flannel', user: { tokenFile: 'token' } }],
    };
    await writeFile(file, JSON.stringify(config)); // JSON is YAML
    return file;
  }

  /** Starts the daemon of host `number`. */
  async start(number: number, ...flags: readonly string[]): Promise<Daemon> {
    return this.startWith({ NODE_NAME: `host${number}` }, number, ...flags);
  }

  async startWith(
    env: Readonly<Record<string, string>>,
    number: number,
    ...flags: readonly string[]
  ): Promise<Daemon> {
    const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    return this.network.startBehind(
      ['env', ...variables],
      number,
      '--kube-subnet-mgr',
      `--kubeconfig-file=${await this.kubeconfig(number)}`,
      `--net-config-path=${this.netConf}`,
      ...flags,
    );
  }

  /**
   * Starts the daemon of host `number` as the pod of the manifest: its arguments, its variables, and the files that
   * kubelet puts where they are looked for. What only a test needs are `wrapper` and the subnet file's place.
   */
  async startAsPod(number: number, wrapper: readonly string[] = []): Promise<Daemon> {
    const { args, env } = containerOf(await manifest());
    const pod = { metadata: { name: `kube-flannel-ds-${number}`, namespace: NAMESPACE } };
    await this.server.create(`/api/v1/namespaces/${NAMESPACE}/pods`, {
      ...pod,
      spec: { nodeName: `host${number}`, containers: [{ name: 'kube-flannel', image: 'flannel' }] },
    });
    const way = this.proxies[number - 1];
    assert.ok(way);
    const variables = [
      `KUBERNETES_SERVICE_HOST=${way.address}`,
      `KUBERNETES_SERVICE_PORT=${way.port}`,
      ...env.map(({ name, value, valueFrom }) => {
        const field = valueFrom?.fieldRef.fieldPath.replace('metadata.', '') as 'name' | 'namespace';
        return `${name}=${value ?? pod.metadata[field]}`;
      }),
    ];
    const { data } = await this.server.get(`/api/v1/namespaces/${NAMESPACE}/configmaps/kube-flannel-cfg`);
    const folder = join(this.network.folder, `pod-${number}`);
    await mkdir(folder);
    await writeFile(join(folder, 'net-conf.json'), (data as Record<string, string>)['net-conf.json'] ?? '');
    await writeFile(join(folder, 'ca.crt'), this.server.ca);
    const files = ['sh', '-ec', POD_FILES, 'sh', folder, this.tokenFile];
    const command = ['env', ...variables, 'unshare', '--mount', ...files, ...wrapper];
    return this.network.startBehind(command, number, ...args);
  }

  /** One daemon a host; each knows all others. */
  async startAll(...flags: readonly string[]): Promise<Daemon[]> {
    const daemons: Daemon[] = [];
    for (let i = 1; i <= this.network.topology.hosts.length; i++) daemons.push(await this.start(i, ...flags));
    await this.settled(daemons);
    return daemons;
  }

  /** Resolves once the table of each daemon is what the nodes say. @throws Error with the difference. */
  async settled(daemons: readonly Daemon[], ms = 3 * HEALED_MS): Promise<void> {
    const tables = daemons.map((daemon) => new PeerTable(daemon));
    await eventually(async () => {
      const nodes = await this.server.nodes();
      for (const [i, table] of tables.entries()) {
        const name = daemons[i]?.host.name ?? '';
        assert.match(daemons[i]?.log ?? '', /flannel is ready/, `${name} is not ready`);
        assert.deepEqual(table.rows(), rowsFor(name, nodes), `the table of ${name}`);
      }
    }, ms);
  }

  /** A node whose flanneld runs, if at all, elsewhere. */
  async addPeer(name: string, podCidr: string, publicIp: string): Promise<void> {
    await this.addNode(name, [podCidr], {
      [`${PREFIX}kube-subnet-manager`]: 'true',
      [`${PREFIX}backend-type`]: '',
      [`${PREFIX}backend-data`]: 'null',
      [`${PREFIX}public-ip`]: publicIp,
    });
  }

  async addNode(
    name: string,
    podCidrs: readonly string[],
    annotations: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    const spec = podCidrs.length === 0 ? {} : { podCIDR: podCidrs[0], podCIDRs: podCidrs };
    await this.server.create(NODES, { metadata: { name, annotations }, spec });
  }

  async annotations(name: string): Promise<Readonly<Record<string, string>>> {
    return (await this.server.get(`${NODES}/${name}`)).metadata.annotations ?? {};
  }

  /** Changes annotations; null takes one away. */
  async annotate(name: string, annotations: Readonly<Record<string, string | null>>): Promise<void> {
    await this.server.patch(`${NODES}/${name}`, { metadata: { annotations } });
  }

  /** The condition of a node that says whether its network can be used. */
  async networkUnavailable(name: string): Promise<Readonly<Record<string, string>> | undefined> {
    const { status } = (await this.server.get(`${NODES}/${name}`)) as KubeObject & {
      readonly status: { readonly conditions?: readonly Readonly<Record<string, string>>[] };
    };
    return status.conditions?.find(({ type }) => type === 'NetworkUnavailable');
  }

  async setNetworkUnavailable(name: string, status: string): Promise<void> {
    const condition = { type: 'NetworkUnavailable', status, reason: 'NoRoute', message: 'by a test' };
    await this.server.patch(`${NODES}/${name}/status`, { status: { conditions: [condition] } });
  }

  /** Makes the token that the daemons use useless; there is a new one only after newToken(). */
  async revokeToken(): Promise<void> {
    await this.server.delete(`${SECRETS}/token-${this.tokens}`);
  }

  /** A token that is good until its secret is deleted. */
  async newToken(): Promise<void> {
    const name = `token-${++this.tokens}`;
    const secret = await this.server.create(SECRETS, { metadata: { name } });
    const boundObjectRef = { kind: 'Secret', apiVersion: 'v1', name, uid: secret.metadata.uid };
    const { status } = (await this.server.create(`${ACCOUNT}/token`, {
      spec: { boundObjectRef },
    })) as unknown as {
      status: { token: string };
    };
    await writeFile(this.tokenFile, status.token);
  }

  /** Takes all permissions away, or gives them back. */
  async permit(allowed: boolean): Promise<void> {
    if (!allowed) await this.server.delete(BINDING);
    else await this.apply((await manifest()).filter(({ kind }) => kind === 'ClusterRoleBinding'));
  }

  async close(): Promise<void> {
    await this.network.stopAll();
    for (const proxy of this.proxies) await proxy.close();
    await this.server.close();
    await this.network.close();
  }

  private async furnish(): Promise<void> {
    await this.apply(await manifest());
    await this.newToken();
  }

  private async apply(objects: readonly KubeObject[]): Promise<void> {
    for (const object of objects) {
      const collection = COLLECTIONS[object.kind ?? ''];
      assert.ok(collection, `nobody knows where a ${object.kind ?? 'nameless thing'} goes`);
      await this.server.create(collection, object);
    }
  }
}

/** The objects of the manifest. */
async function manifest(): Promise<KubeObject[]> {
  const documents = parseAllDocuments(await readFile(MANIFEST, 'utf8'));
  return documents.map((document) => {
    assert.deepEqual(document.errors, []);
    return document.toJS() as KubeObject;
  });
}

interface Container {
  readonly args: readonly string[];
  readonly env: readonly {
    readonly name: string;
    readonly value?: string;
    readonly valueFrom?: { readonly fieldRef: { readonly fieldPath: string } };
  }[];
}

/** What the DaemonSet runs. */
function containerOf(objects: readonly KubeObject[]): Container {
  const daemonSet = objects.find(({ kind }) => kind === 'DaemonSet');
  const { template } = daemonSet?.spec as { template: { spec: { containers: Container[] } } };
  const [container] = template.spec.containers;
  assert.ok(container);
  return container;
}

/** The rows that the table of a node should have. */
function rowsFor(own: string, nodes: readonly KubeObject[]): string[] {
  return nodes
    .filter(({ metadata }) => metadata.name !== own)
    .flatMap((node) => {
      const annotations = node.metadata.annotations ?? {};
      const { podCIDR = '' } = node.spec as { readonly podCIDR?: string };
      const publicIp = annotations[`${PREFIX}public-ip`] ?? annotations[`${PREFIX}public-ipv6`];
      if (annotations[`${PREFIX}kube-subnet-manager`] !== 'true' || publicIp === undefined) return [];
      return podCIDR === '' ? [] : [`${podCIDR} via ${publicIp}`];
    })
    .sort();
}
