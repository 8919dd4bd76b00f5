/** Daemons in a cluster with a real kube-apiserver: what they write, what they follow, what they get over. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, afterEach, before, describe, test } from 'node:test';
import { eventually } from '../lib/eventually.js';
import { failsWith, undisturbed } from '../lib/network.js';
import { expectedIptables, iptablesRules, withVariant } from '../lib/rules.js';
import { Cluster, NODES, PREFIX } from './cluster.js';

let cluster: Cluster;
before(async () => {
  cluster = await Cluster.create(3);
});
after(() => cluster.close());

/** What a daemon that starts waits for, on a machine that has other things to do. */
const PATIENCE_MS = 30_000;

interface ProbedContainer {
  readonly ports: readonly { readonly containerPort: number }[];
  readonly livenessProbe: Probe;
  readonly readinessProbe: Probe;
}
interface Probe {
  readonly httpGet: { readonly path: string };
}

test('the API server has taken each object of the manifest', async () => {
  const daemonSet = await cluster.server.get(
    '/apis/apps/v1/namespaces/kube-flannel/daemonsets/kube-flannel-ds',
  );
  const { template } = daemonSet.spec as { template: { spec: { containers: { args: string[] }[] } } };
  assert.ok(template.spec.containers[0]?.args.includes('--kube-subnet-mgr'));
  const role = await cluster.server.get('/apis/rbac.authorization.k8s.io/v1/clusterroles/flannel');
  assert.deepEqual(role.rules, [
    { apiGroups: [''], resources: ['pods'], verbs: ['get'] },
    { apiGroups: [''], resources: ['nodes'], verbs: ['get', 'list', 'watch'] },
    { apiGroups: [''], resources: ['nodes/status'], verbs: ['patch'] },
  ]);
  const config = await cluster.server.get('/api/v1/namespaces/kube-flannel/configmaps/kube-flannel-cfg');
  const conf = (config.data as Record<string, string>)['net-conf.json'] ?? '';
  assert.equal((JSON.parse(conf) as { Network: string }).Network, '10.244.0.0/16');
});

describe('a node', () => {
  afterEach(() => cluster.network.stopAll());

  test('gets its pod CIDR, annotations byte for byte, and a network that is available', async () => {
    await cluster.setNetworkUnavailable('host1', 'True');
    const daemon = await cluster.start(1);
    await daemon.logged(/flannel is ready/, PATIENCE_MS);
    assert.match(daemon.log, /Created subnet manager: Kubernetes Subnet Manager - host1/);
    assert.equal(daemon.subnetEnv('FLANNEL_NETWORK'), '10.244.0.0/16');
    assert.equal(daemon.subnetEnv('FLANNEL_SUBNET'), '10.244.1.1/24');
    assert.deepEqual(await cluster.annotations('host1'), {
      [`${PREFIX}kube-subnet-manager`]: 'true',
      [`${PREFIX}backend-type`]: '',
      [`${PREFIX}backend-data`]: 'null',
      [`${PREFIX}public-ip`]: '192.168.77.1',
    });
    await eventually(
      async () => (await cluster.networkUnavailable('host1'))?.status === 'False',
      PATIENCE_MS,
    );
    const condition = await cluster.networkUnavailable('host1');
    assert.equal(condition?.reason, 'FlannelIsUp');
    assert.equal(condition.message, 'Flannel is running on this node');
  });

  test('runs as in the manifest: its probes answer, and the traffic rules are in place', async () => {
    const behind = await withVariant(cluster.network.folder, 'nft');
    const daemon = await cluster.startAsPod(2, behind);
    await daemon.logged(/flannel is ready/, PATIENCE_MS);
    const { host } = daemon;
    const daemonSet = await cluster.server.get(
      '/apis/apps/v1/namespaces/kube-flannel/daemonsets/kube-flannel-ds',
    );
    const { template } = daemonSet.spec as { template: { spec: { containers: ProbedContainer[] } } };
    const [container] = template.spec.containers;
    const port = container?.ports[0]?.containerPort ?? 0;
    for (const [probe, body] of [
      [container?.livenessProbe, 'flanneld is running'],
      [container?.readinessProbe, 'flanneld is ready'],
    ] as const) {
      const url = `http://${host.address}:${port}${probe?.httpGet.path ?? ''}`;
      await eventually(async () => {
        const response = await fetch(url, { signal: AbortSignal.timeout(5000) });
        assert.deepEqual([response.status, await response.text()], [200, body]);
      }, PATIENCE_MS);
    }
    assert.deepEqual(await iptablesRules(host, 'nft'), [
      ...expectedIptables('10.244.0.0/16', '10.244.2.0/24'),
    ]);
  });

  test('is known by its pod, and may have annotations under another prefix', async () => {
    await cluster.server.create('/api/v1/namespaces/kube-flannel/pods', {
      metadata: { name: 'flannel-2' },
      spec: { nodeName: 'host2', containers: [{ name: 'flannel', image: 'flannel' }] },
    });
    const env = { POD_NAME: 'flannel-2', POD_NAMESPACE: 'kube-flannel' };
    const daemon = await cluster.startWith(env, 2, '--kube-annotation-prefix=example.com/net');
    await daemon.logged(/Kubernetes Subnet Manager - host2/, PATIENCE_MS);
    await daemon.logged(/flannel is ready/);
    const annotations = await cluster.annotations('host2');
    assert.equal(annotations['example.com/net-public-ip'], '192.168.77.2');
  });

  test('announces what an operator overwrites, also later, and uses the address that one chose', async () => {
    await cluster.network.host(3).ip('address', 'add', '192.168.77.33/24', 'dev', 'eth0');
    await cluster.annotate('host3', {
      [`${PREFIX}node-public-ip`]: '192.168.77.33',
      [`${PREFIX}public-ip-overwrite`]: '198.51.100.3',
    });
    const daemon = await cluster.start(3);
    await daemon.logged(/Using interface with name eth0 and address 192\.168\.77\.33/, PATIENCE_MS);
    await daemon.logged(/flannel is ready/);
    const publicIp = async () => (await cluster.annotations('host3'))[`${PREFIX}public-ip`];
    assert.equal(await publicIp(), '198.51.100.3');
    await cluster.annotate('host3', { [`${PREFIX}public-ip-overwrite`]: '198.51.100.4' });
    await eventually(async () => (await publicIp()) === '198.51.100.4', PATIENCE_MS);
    await cluster.annotate('host3', {
      [`${PREFIX}public-ip-overwrite`]: null,
      [`${PREFIX}node-public-ip`]: null,
    });
    await eventually(async () => (await publicIp()) === '192.168.77.33', PATIENCE_MS);
    await cluster.network.host(3).ip('address', 'del', '192.168.77.33/24', 'dev', 'eth0');
  });

  test('without a pod CIDR, or with one from elsewhere, is told so', async () => {
    await cluster.addNode('bare', []);
    await cluster.addNode('elsewhere', ['10.99.1.0/24']);
    await failsWith(
      await cluster.startWith({ NODE_NAME: 'bare' }, 1),
      1,
      /node "bare" pod cidr not assigned/,
    );
    await failsWith(
      await cluster.startWith({ NODE_NAME: 'elsewhere' }, 1),
      1,
      /subnet "10\.244\.0\.0\/16" specified in the flannel net config doesn't contain "10\.99\.1\.0\/24" PodCIDR of the "elsewhere" node/,
    );
    for (const name of ['bare', 'elsewhere']) await cluster.server.delete(`${NODES}/${name}`);
  });

  test('that comes back with another pod CIDR ends the daemon', async () => {
    await cluster.addNode('moving', ['10.244.50.0/24']);
    const daemon = await cluster.startWith({ NODE_NAME: 'moving' }, 1);
    await daemon.logged(/flannel is ready/, PATIENCE_MS);
    await cluster.server.delete(`${NODES}/moving`);
    await daemon.logged(/the node moving was deleted; waiting/, PATIENCE_MS);
    await cluster.addNode('moving', ['10.244.51.0/24']);
    await failsWith(
      daemon,
      1,
      /pod CIDR of the node moving was 10\.244\.50\.0\/24 and is 10\.244\.51\.0\/24 now/,
    );
    await cluster.server.delete(`${NODES}/moving`);
  });

  test('needs a name, a net-conf and a number', async () => {
    await failsWith(
      await cluster.startWith({}, 1),
      1,
      /env variables POD_NAME and POD_NAMESPACE must be set/,
    );
    const missing = { POD_NAME: 'nobody', POD_NAMESPACE: 'kube-flannel' };
    await failsWith(
      await cluster.startWith(missing, 1),
      1,
      /error retrieving pod spec for 'kube-flannel\/nobody': /,
    );
    await failsWith(await cluster.start(1, '--net-config-path=/nowhere'), 1, /failed to read net conf: /);
    const wrong = `${cluster.netConf}.wrong`;
    await writeFile(wrong, '{"Network":7}');
    await failsWith(await cluster.start(1, `--net-config-path=${wrong}`), 1, /error parsing subnet config: /);
    const env = { NODE_NAME: 'host1', EVENT_QUEUE_DEPTH: 'many' };
    await failsWith(await cluster.startWith(env, 1), 1, /EVENT_QUEUE_DEPTH=many format error/);
  });
});

describe('three nodes', () => {
  before(() => cluster.startAll());
  after(() => cluster.network.stopAll());

  async function daemons() {
    const all = cluster.network.running;
    await cluster.settled(all);
    const [first, second] = all;
    const [way] = cluster.proxies;
    assert.ok(first && second && way);
    return { all, first, second, way };
  }

  test('reach each other', async () => {
    const { all } = await daemons();
    for (const from of all) {
      for (const to of all) {
        if (from !== to) await from.host.exec('ping', '-n', '-c', '3', '-i', '0.1', to.overlayAddress);
      }
    }
  });

  test('follow nodes that come, change and go', async () => {
    const { all, first } = await daemons();
    await cluster.addPeer('peer', '10.244.60.0/24', '192.168.77.60');
    await first.logged(/Subnet added: 10\.244\.60\.0\/24 via 192\.168\.77\.60/);
    await cluster.annotate('peer', { [`${PREFIX}public-ip`]: '192.168.77.61' });
    await first.logged(/Subnet added: 10\.244\.60\.0\/24 via 192\.168\.77\.61/);
    await cluster.annotate('peer', { [`${PREFIX}kube-subnet-manager`]: null });
    await first.logged(/Subnet removed: 10\.244\.60\.0\/24/);
    await cluster.annotate('peer', { [`${PREFIX}kube-subnet-manager`]: 'true' });
    await cluster.settled(all);
    await cluster.server.delete(`${NODES}/peer`);
    await cluster.settled(all);
  });

  test('put annotations and condition back', async () => {
    const { all } = await daemons();
    await cluster.annotate('host1', {
      [`${PREFIX}kube-subnet-manager`]: null,
      [`${PREFIX}backend-data`]: '{"Port":1}',
      [`${PREFIX}public-ip`]: '192.0.2.1',
    });
    await eventually(async () => {
      const annotations = await cluster.annotations('host1');
      assert.equal(annotations[`${PREFIX}kube-subnet-manager`], 'true');
      assert.equal(annotations[`${PREFIX}backend-data`], 'null');
      assert.equal(annotations[`${PREFIX}public-ip`], '192.168.77.1');
    }, PATIENCE_MS);
    await cluster.setNetworkUnavailable('host1', 'True');
    await eventually(
      async () => (await cluster.networkUnavailable('host1'))?.status === 'False',
      PATIENCE_MS,
    );
    await cluster.settled(all);
  });

  test('come back as nodes that were deleted and registered anew', async () => {
    const { all, first, second } = await daemons();
    await cluster.server.delete(`${NODES}/host2`);
    await first.logged(/Subnet removed: 10\.244\.2\.0\/24/);
    await cluster.addNode('host2', ['10.244.2.0/24']);
    await eventually(async () => {
      assert.equal((await cluster.annotations('host2'))[`${PREFIX}public-ip`], '192.168.77.2');
    }, PATIENCE_MS);
    await cluster.settled(all);
    await first.host.exec('ping', '-n', '-c', '3', '-i', '0.1', second.overlayAddress);
  });

  test('go on while the API server is killed and restarted, and catch up', async () => {
    const { all, first, second } = await daemons();
    await undisturbed(first, second, async () => {
      await cluster.server.kill();
      await first.logged(/lost the Kubernetes API server/, PATIENCE_MS);
      await cluster.server.restart();
      await cluster.addPeer('late', '10.244.61.0/24', '192.168.77.61');
      await cluster.settled(all);
    });
    await cluster.server.delete(`${NODES}/late`);
  });

  test('read all nodes anew when what they missed was compacted away', async () => {
    const { all, first, way } = await daemons();
    await cluster.addPeer('gone', '10.244.62.0/24', '192.168.77.62');
    await cluster.settled(all);
    await way.cut();
    await cluster.server.delete(`${NODES}/gone`);
    await cluster.addPeer('come', '10.244.63.0/24', '192.168.77.63');
    // The server's own memory of what happened goes with its process, etcd's with the compaction.
    await cluster.server.kill();
    await cluster.server.etcd.compact();
    await cluster.server.restart();
    await way.open();
    await first.logged(/does not know any more what happened meanwhile; reading all nodes anew/, PATIENCE_MS);
    await cluster.settled(all);
    await cluster.server.delete(`${NODES}/come`);
  });

  test('notice connections behind which nobody is any more', async () => {
    const { all, first, way } = await daemons();
    way.swallow('up', 'down');
    await cluster.addPeer('unheard', '10.244.64.0/24', '192.168.77.64');
    await first.logged(/gone silent/, PATIENCE_MS);
    await way.open();
    await cluster.settled(all);
    await cluster.server.delete(`${NODES}/unheard`);
  });

  test('use a new token when the old one is revoked', async () => {
    const { all, first } = await daemons();
    await cluster.revokeToken();
    // A watch that stands goes on; a new connection has to show the token. It is known for 10 s after its last use.
    await new Promise((resolve) => setTimeout(resolve, 11_000));
    for (const proxy of cluster.proxies) proxy.reset();
    await first.logged(/\(401\); check the token/, PATIENCE_MS);
    await cluster.newToken();
    await cluster.addPeer('fresh', '10.244.65.0/24', '192.168.77.65');
    await cluster.settled(all);
    await cluster.server.delete(`${NODES}/fresh`);
  });

  test('wait for permissions that are missing', async () => {
    const { all, first } = await daemons();
    await cluster.permit(false);
    for (const proxy of cluster.proxies) proxy.reset();
    await first.logged(/\(403\); grant it the ClusterRole flannel/, PATIENCE_MS);
    await cluster.permit(true);
    await cluster.settled(all);
  });
});
