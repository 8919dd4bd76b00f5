/** The manifest, the chart and the Dockerfile: that they hold together, as far as that shows without a cluster. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { ROOT, hasCommand } from '../../bench/tools.js';
import { parseNetworkConfig } from '../../src/config.js';
import { render, renderChart } from '../lib/chart.js';

const CHART = join(ROOT, 'deploy/chart/kube-flannel');

/** Only what is read below. */
interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly data?: Record<string, string>;
  readonly spec?: { readonly template: { readonly spec: PodSpec } };
  readonly rules?: readonly { readonly resources: readonly string[]; readonly verbs: readonly string[] }[];
}
interface PodSpec {
  readonly containers: [Container, ...Container[]];
  readonly initContainers: Container[];
  readonly volumes: { readonly name: string }[];
  readonly tolerations?: unknown;
  readonly nodeSelector?: unknown;
  readonly imagePullSecrets?: unknown;
}
interface Container {
  readonly name: string;
  readonly image: string;
  readonly command: string[];
  readonly args: string[];
  readonly ports?: unknown;
  readonly livenessProbe?: unknown;
  readonly readinessProbe?: unknown;
  readonly volumeMounts: { readonly name: string }[];
  readonly securityContext?: { readonly privileged: boolean; readonly capabilities: unknown };
}

const documents = parseAllDocuments(readFileSync(join(ROOT, 'deploy/kube-flannel.yml'), 'utf8')).map(
  (document) => {
    assert.deepEqual([...document.errors, ...document.warnings], []);
    return document.toJS() as Manifest;
  },
);
const chart = (overrides = {}) => renderChart(CHART, 'kube-flannel', overrides) as Manifest[];
const named = (list: readonly Manifest[], kind: string) => {
  const found = list.find((one) => one.kind === kind);
  assert.ok(found, `there is no ${kind}`);
  return found;
};
const podOf = (list: readonly Manifest[]) => {
  const spec = named(list, 'DaemonSet').spec?.template.spec;
  assert.ok(spec);
  return spec;
};
const dataOf = (list: readonly Manifest[], key: string) =>
  JSON.parse(named(list, 'ConfigMap').data?.[key] ?? '') as Record<string, unknown>;

describe('kube-flannel.yml', () => {
  test('has the objects of stock flannel under their names', () => {
    assert.deepEqual(
      documents.map(({ kind, metadata }) => `${kind} ${metadata.name}`),
      [
        'Namespace kube-flannel',
        'ServiceAccount flannel',
        'ClusterRole flannel',
        'ClusterRoleBinding flannel',
        'ConfigMap kube-flannel-cfg',
        'DaemonSet kube-flannel-ds',
      ],
    );
  });

  test('holds a network config that flanneld reads, and mounts only volumes that there are', () => {
    parseNetworkConfig(named(documents, 'ConfigMap').data?.['net-conf.json'] ?? '');
    const pod = podOf(documents);
    const volumes = pod.volumes.map(({ name }) => name);
    const mounted = [...pod.initContainers, ...pod.containers].flatMap(({ volumeMounts }) => volumeMounts);
    assert.deepEqual([...new Set(mounted.map(({ name }) => name))].sort(), volumes.sort());
  });

  test('asks for no more than the device needs', () => {
    const { securityContext } = podOf(documents).containers[0];
    assert.deepEqual(securityContext, { privileged: false, capabilities: { add: ['NET_ADMIN', 'NET_RAW'] } });
    const tun = podOf(documents).volumes.find(({ name }) => name === 'tun');
    assert.deepEqual(tun, { name: 'tun', hostPath: { path: '/dev/net/tun', type: 'CharDevice' } });
  });
});

describe('the chart', () => {
  test('renders the manifest by default; the namespace is for whoever installs it', () => {
    const noExecute = { effect: 'NoExecute', operator: 'Exists' };
    const plain = (list: readonly Manifest[]) =>
      list
        .filter(({ kind }) => kind !== 'Namespace')
        .map((one) =>
          one.data ? { ...one, data: Object.keys(one.data).map((key) => dataOf(list, key)) } : one,
        )
        .sort((a, b) => (a.kind < b.kind ? -1 : 1));
    const rendered = chart();
    // The one difference, which stock's chart has, too.
    assert.deepEqual(podOf(rendered).tolerations, [
      noExecute,
      ...(podOf(documents).tolerations as unknown[]),
    ]);
    assert.deepEqual(plain(chart({ 'flannel.tolerations': podOf(documents).tolerations })), plain(documents));
  });

  test('is what Helm makes of it', { skip: !hasCommand('helm') && 'there is no helm' }, () => {
    const { stdout, stderr } = spawnSync('helm', ['template', 'flannel', CHART, '-n', 'kube-flannel'], {
      encoding: 'utf8',
    });
    assert.equal(stderr, '');
    const byKind = (a: Manifest, b: Manifest) => (a.kind < b.kind ? -1 : 1);
    const made = parseAllDocuments(stdout).map((document) => document.toJS() as Manifest);
    assert.deepEqual(made.sort(byKind), chart().sort(byKind));
  });

  for (const [overrides, expected] of [
    [
      { podCidr: '', podCidrv6: 'fd00::/48' },
      {
        EnableIPv4: false,
        EnableIPv6: true,
        IPv6Network: 'fd00::/48',
        EnableNFTables: false,
        Backend: { Type: 'udp' },
      },
    ],
    [
      { 'flannel.backendPort': 9001, 'flannel.mtu': 1400 },
      { Network: '10.244.0.0/16', EnableNFTables: false, Backend: { Port: 9001, MTU: 1400, Type: 'udp' } },
    ],
    [
      { 'flannel.backend': 'wireguard', 'flannel.backendPort': 9001 },
      { Network: '10.244.0.0/16', EnableNFTables: false, Backend: { ListenPort: 9001, Type: 'wireguard' } },
    ],
    [
      { 'flannel.enableNFTables': true, podCidr: '10.42.0.0/16' },
      { Network: '10.42.0.0/16', EnableNFTables: true, Backend: { Type: 'udp' } },
    ],
  ] as const) {
    test(`${JSON.stringify(overrides)} in the network config`, () => {
      assert.deepEqual(dataOf(chart(overrides), 'net-conf.json'), expected);
    });
  }

  test('images, secrets, arguments, node selector', () => {
    const pod = podOf(
      chart({
        'flannel.image': { repository: 'r/flanneld', tag: 'v9' },
        'flannel.flannel_cni.image': { repository: 'r/cni', tag: 'v8' },
        'flannel.args': ['--kube-subnet-mgr'],
        'flannel.nodeSelector': { disk: 'ssd' },
        'flannel.tolerations': [],
        'global.imagePullSecrets': [{ name: 'registry' }],
      }),
    );
    assert.deepEqual(
      [...pod.initContainers, ...pod.containers].map(({ image }) => image),
      ['r/cni:v8', 'r/flanneld:v9', 'r/flanneld:v9'],
    );
    assert.deepEqual(pod.containers[0].args, ['--kube-subnet-mgr', '--healthz-port=8081']);
    assert.deepEqual(
      [pod.nodeSelector, pod.imagePullSecrets, pod.tolerations],
      [{ disk: 'ssd' }, [{ name: 'registry' }], undefined],
    );
  });

  test('with network policies', () => {
    const plainPod = podOf(chart());
    assert.deepEqual([plainPod.containers.length, plainPod.volumes.length], [1, 6]);
    const made = chart({ 'netpol.enabled': true, 'netpol.args': ['--v=4'] });
    const { containers, volumes } = podOf(made);
    const policies = containers.find(({ name }) => name === 'kube-network-policies');
    assert.deepEqual(
      [policies?.image, policies?.command, policies?.args],
      ['registry.k8s.io/networking/kube-network-policies:v1.0.0', ['/bin/netpol'], ['--v=4']],
    );
    assert.deepEqual(volumes.at(-1), { name: 'lib-modules', hostPath: { path: '/lib/modules' } });
    const { rules = [] } = named(made, 'ClusterRole');
    const watched = rules.filter(({ verbs }) => verbs.includes('list') && verbs.includes('watch'));
    assert.deepEqual(watched.flatMap(({ resources }) => resources).sort(), [
      'adminnetworkpolicies',
      'baselineadminnetworkpolicies',
      'namespaces',
      'networkpolicies',
      'nodes',
      'pods',
    ]);
  });

  test('without health endpoint and without CNI config', () => {
    const pod = podOf(chart({ 'flannel.healthz.port': 0, 'flannel.skipCNIConfigInstallation': true }));
    const [{ args, ports, livenessProbe, readinessProbe }] = pod.containers;
    assert.deepEqual(
      [args, ports, livenessProbe, readinessProbe],
      [['--ip-masq', '--kube-subnet-mgr'], undefined, undefined, undefined],
    );
    assert.deepEqual(
      pod.initContainers.map(({ name }) => name),
      ['install-cni-plugin'],
    );
    assert.ok(!pod.volumes.some(({ name }) => name === 'cni'));
  });

  test('has its folders on the node, its port and its CNI config', () => {
    const changed = chart({
      'flannel.cniBinDir': '/a',
      'flannel.cniConfDir': '/b',
      'flannel.healthz.port': 9,
      'flannel.cniConf': { name: 'x' },
    });
    const volumes = JSON.stringify(podOf(changed).volumes);
    assert.match(volumes, /"path":"\/a"/);
    assert.match(volumes, /"path":"\/b"/);
    assert.deepEqual(podOf(changed).containers[0].ports, [{ name: 'healthz', containerPort: 9 }]);
    assert.deepEqual(dataOf(changed, 'cni-conf.json'), { name: 'x' });
  });

  test('has the version of the package', () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    const read = (name: string) => parse(readFileSync(join(CHART, name), 'utf8')) as Record<string, unknown>;
    assert.equal(read('Chart.yaml').appVersion, version);
    assert.equal(podOf(documents).containers[0].image, `flannel-udp:${version}`);
  });
});

test('the renderer refuses what it does not know', () => {
  for (const text of [
    '{{ range .Values.x }}{{ end }}',
    '{{ .Values.none }}',
    '{{ if .Values.x }}',
    '{{ end }}',
    '{{ .Values.x | upper }}',
  ]) {
    assert.throws(() => render(text, { Values: { x: [1] } }), text);
  }
});

test('the Dockerfile copies what there is, and its image holds what the manifest runs', () => {
  const text = readFileSync(join(ROOT, 'deploy/Dockerfile'), 'utf8').replaceAll('\\\n', ' ');
  for (const [, words = ''] of text.matchAll(/^COPY (.*)$/gm)) {
    const paths = words.split(/\s+/).filter((word) => !word.startsWith('--chown'));
    const from = paths[0]?.startsWith('--from=build') ? paths.shift() : undefined;
    for (const source of paths.slice(0, -1)) {
      const local = source.replace('/home/node/flannel/', '');
      // What the build makes is made by the scripts that the build stage runs.
      const made = /^(?:build|dist|node_modules)\b/.test(local);
      assert.ok((from !== undefined && made) || existsSync(join(ROOT, local)), `there is no ${source}`);
    }
  }
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  for (const [, script = ''] of text.matchAll(/npm run ([\w:]+)/g)) assert.ok(script in scripts, script);
  for (const program of [
    '/flannel',
    '/opt/bin/flanneld',
    'deploy/install-conf',
    'deploy/mk-docker-opts.sh',
    // Where src/status/page.ts looks for what --status-page serves.
    'src/status/page src/status/page',
  ]) {
    assert.ok(text.includes(program), program);
  }
  assert.match(text, /^ENTRYPOINT \["\/opt\/bin\/flanneld"\]$/m);
});
