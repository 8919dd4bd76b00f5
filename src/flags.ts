/**
 * The command line: one row per flag, Go's flag syntax, FLANNELD_* from the environment, help. Precedence is
 * command line, then environment, then default.
 */
import { FlannelError, UsageError, messageOf } from './errors.js';
import { parseBacktraceLocation, parseVmodule } from './logging/levels.js';
import { redact } from './logging/redact.js';

interface ValueTypes {
  readonly string: string;
  /** Repeatable; every use appends. */
  readonly list: readonly string[];
  readonly bool: boolean;
  /** 64 bits in Go; here up to 2^53. */
  readonly int: number;
  /** klog's -v: decimal only. */
  readonly level: number;
  readonly vmodule: string;
  readonly location: string;
  readonly tier: (typeof CHOICES)['tier'][number];
  readonly threads: (typeof CHOICES)['threads'][number];
  readonly logging: (typeof CHOICES)['logging'][number];
  /** Words separated by commas. */
  readonly features: readonly (typeof CHOICES)['features'][number][];
}

/** The words that a flag of such a kind takes, the slowest tier first. */
const CHOICES = {
  tier: ['auto', 'basic', 'batch', 'udp-offload', 'full'],
  threads: ['auto', 'single', 'split'],
  features: ['batch', 'gso', 'gro', 'tso', 'uso'],
  logging: ['text', 'json'],
} as const;

type Kind = keyof ValueTypes;
type Value = ValueTypes[Kind];

interface Row<K extends Kind = Kind> {
  readonly kind: K;
  readonly initial: ValueTypes[K];
  readonly help: string;
}

function row<K extends Kind>(kind: K, initial: ValueTypes[K], help: string): Row<K> {
  return { kind, initial, help };
}

// prettier-ignore
const FLAGS = {
  'backend': row('string', '', 'backend to run, in place of the network config\'s Backend.Type: udp'),
  'dataplane-disable': row('features', [], 'kernel features that the dataplane must not use, separated by commas: batch, gso, gro, tso, uso'),
  'dataplane-receive-buffer': row('int', 4 << 20, 'bytes that may wait in the socket to be received; 0 leaves the default of the system'),
  'dataplane-send-buffer': row('int', 32 << 20, 'bytes that may wait in the socket to be sent, also for hosts that do not answer; 0 leaves the default of the system'),
  'dataplane-queues': row('int', 0, 'queues of the TUN device, each with a socket and threads of its own; 0 for one to every two processors, at most 4'),
  'dataplane-source-ports': row('int', 1, 'UDP ports to send from, each flow from one of them, so that networks that tell flows by their ports can spread the tunnel; 1 sends everything from the port of the network config'),
  'dataplane-tier': row('tier', 'auto', 'how packets are moved: basic (one a system call), batch, udp-offload (runs of datagrams), full (super-packets through the TUN device as well), or auto for the fastest that works'),
  'dataplane-threads': row('threads', 'auto', 'single: one thread for both directions; split: one each; auto: split with more than two processors'),
  'etcd-endpoints': row('string', 'http://127.0.0.1:4001,http://127.0.0.1:2379', 'etcd endpoints, separated by commas'),
  'etcd-prefix': row('string', '/coreos.com/network', 'key prefix in etcd'),
  'etcd-keyfile': row('string', '', 'private key file of the TLS client certificate for etcd'),
  'etcd-certfile': row('string', '', 'TLS client certificate file for etcd'),
  'etcd-cafile': row('string', '', 'file of the certificate authorities that etcd is checked against'),
  'etcd-username': row('string', '', 'user name for etcd'),
  'etcd-password': row('string', '', 'password for etcd'),
  'iface': row('list', [], 'interface, by name or IP address, for traffic between hosts; may be repeated, the first that exists is taken'),
  'iface-regex': row('list', [], 'regular expression (RE2 syntax) that an interface\'s IP address or name matches; may be repeated, tried after every iface'),
  'iface-can-reach': row('string', '', 'take the interface that the kernel would use towards this IP address; tried last'),
  'subnet-file': row('string', '/run/flannel/subnet.env', 'file that the subnet, the MTU and other values are written to'),
  'subnet-dir': row('string', '', 'keep config and leases in this directory instead of etcd'),
  'control-socket': row('string', '', 'unix socket by which a running flanneld hands over to its successor; by default beside the subnet file, as subnet.sock for subnet.env; none for no hand-over'),
  'handover-generation': row('int', 0, 'a running flanneld refuses to hand over to one of a lower generation'),
  'status-socket': row('string', '', 'unix socket at which the running daemon tells its status; by default beside the subnet file, as subnet.status.sock for subnet.env; none for no such socket'),
  'status-page': row('bool', false, 'show the status as a page, /status/ on the health port'),
  'public-ip': row('string', '', 'IPv4 address that other hosts send to; by default that of the interface'),
  'public-ipv6': row('string', '', 'IPv6 address that other hosts send to; by default that of the interface'),
  'subnet-lease-renew-margin': row('int', 60, 'minutes before its end at which the lease is renewed, 1 to 1439'),
  'ip-masq': row('bool', false, 'masquerade traffic that leaves the overlay network'),
  'ip-masq-fully-random-disable': row('bool', false, 'masquerade without fully random source ports'),
  'kube-subnet-mgr': row('bool', false, 'take subnets from Kubernetes nodes instead of etcd'),
  'kube-api-url': row('string', '', 'URL of the Kubernetes API server'),
  'kube-annotation-prefix': row('string', 'flannel.alpha.coreos.com', 'prefix of the annotations on Kubernetes nodes'),
  'kubeconfig-file': row('string', '', 'kubeconfig file for the Kubernetes API server'),
  'udp-port': row('int', 0, 'UDP port of this host alone, announced with its lease, so that hosts behind one NAT can share a public IP; 0 takes that of the network config, as stock flannel does on all hosts'),
  'version': row('bool', false, 'print the version and exit'),
  'healthz-ip': row('string', '0.0.0.0', 'address that the health endpoint listens on'),
  'healthz-port': row('int', 0, 'port of the health endpoint; 0 turns it off'),
  'metrics-peers': row('int', 1000, 'peers whose traffic /metrics tells one by one, those with the most; 0 for none'),
  'iptables-resync': row('int', 5, 'seconds between checks of the traffic rules, where the kernel does not announce their changes; also how long the blackhole route waits at the start'),
  'iptables-forward-rules': row('bool', true, 'add rules that accept forwarded overlay traffic'),
  'ip-blackhole-route': row('bool', false, 'keep a blackhole route for the own subnet'),
  'net-config-path': row('string', '/etc/kube-flannel/net-conf.json', 'network config file, read with kube-subnet-mgr'),
  'set-node-network-unavailable': row('bool', true, 'clear the NetworkUnavailable condition of the Kubernetes node'),
  'logging-format': row('logging', 'text', 'form of the log lines: text, as klog writes them, or json, one object a line'),
  'v': row('level', 0, 'log messages up to this level'),
  'vmodule': row('vmodule', '', 'log levels by source file, as pattern=N,...'),
  'keep-privileges': row('bool', false, 'keep all capabilities once everything is set up, and let programs gain new ones'),
  'log_backtrace_at': row('location', '', 'add a stack trace to the message that this file:line logs'),
} satisfies Record<string, Row>;

type FlagName = keyof typeof FLAGS;
type CamelCase<S extends string> = S extends `${infer Head}-${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : S extends `${infer Head}_${infer Tail}`
    ? `${Head}${Capitalize<CamelCase<Tail>>}`
    : S;

/** The value of every flag under its name in camel case. */
export type Options = {
  readonly [Name in FlagName as CamelCase<Name>]: ValueTypes[(typeof FLAGS)[Name]['kind']];
};

/** What the command line asks for. `warnings` are for the log, once it is configured. */
export type Command =
  | { readonly kind: 'run'; readonly options: Options; readonly warnings: readonly string[] }
  | { readonly kind: 'version' }
  | { readonly kind: 'help'; readonly text: string };

const NAMES = Object.keys(FLAGS) as FlagName[];

/**
 * Reads the arguments after the program's name, then FLANNELD_* for flags that they do not set. A bad variable is
 * only a warning, as in flannel; `program` is what the help calls the command.
 * @throws UsageError: one line that says what to write.
 */
export function parseFlags(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  program = 'flanneld',
): Command {
  const given = new Map<FlagName, Value>();
  const rest = parseArguments(argv, given);
  if (rest === 'help') return { kind: 'help', text: helpText(program) };
  if (given.get('version') === true) return { kind: 'version' };
  const warnings: string[] = [];
  if (rest.length > 0) {
    const from = JSON.stringify(rest[0]);
    warnings.push(
      `Ignored all arguments from ${from} on: no flags are read after one that is none; write --name=value`,
    );
  }
  for (const name of NAMES) {
    const variable = `FLANNELD_${name.toUpperCase().replaceAll('-', '_')}`;
    const text = env[variable];
    if (given.has(name) || text === undefined || text === '') continue;
    try {
      given.set(name, parseValue(FLAGS[name], text, []));
    } catch (error) {
      warnings.push(
        `Failed to set flag FLANNELD from env ${variable}: ${JSON.stringify(text)} is not valid; ${messageOf(error)}`,
      );
    }
  }
  const options = Object.fromEntries(
    NAMES.map((name) => [camelCase(name), given.get(name) ?? FLAGS[name].initial]),
  );
  return { kind: 'run', options: options as unknown as Options, warnings };
}

/**
 * How long before its end the lease is to be renewed, in milliseconds.
 * @throws FlannelError, deliberately no UsageError: flanneld exits with 1 for this one.
 */
export function renewMarginMs(options: Pick<Options, 'subnetLeaseRenewMargin'>): number {
  const minutes = options.subnetLeaseRenewMargin;
  if (minutes < 1 || minutes > 1439) {
    throw new FlannelError(
      `Invalid subnet-lease-renew-margin ${minutes}: write a number of minutes from 1 to 1439 (a lease runs for 24 hours)`,
    );
  }
  return minutes * 60_000;
}

/** What a timer can wait, in seconds. */
const MOST_SECONDS = 2_147_483;

/**
 * How often the traffic rules are looked at, in milliseconds.
 * @throws FlannelError: a period of 0 would have no pause at all.
 */
export function iptablesResyncMs(options: Pick<Options, 'iptablesResync'>): number {
  const seconds = options.iptablesResync;
  if (seconds < 1 || seconds > MOST_SECONDS) {
    throw new FlannelError(
      `Invalid iptables-resync ${seconds}: write a number of seconds from 1 to ${MOST_SECONDS}`,
    );
  }
  return seconds * 1000;
}

/** All options in one line, as `{name:value …}`, without secrets. */
export function describeOptions(options: Options): string {
  const items = Object.entries(options).map(([name, value]: [string, Value]) => {
    if (name === 'etcdPassword' && value !== '') return `${name}:***`;
    return `${name}:${redact(typeof value === 'object' ? `[${value.join(' ')}]` : String(value))}`;
  });
  return `{${items.join(' ')}}`;
}

/** The help text, laid out as Go's flag package does. */
export function helpText(program: string): string {
  const words = {
    string: ' string',
    int: ' int',
    bool: '',
    list: ' value',
    level: ' value',
    vmodule: ' value',
    location: ' value',
    tier: ' string',
    features: ' value',
    threads: ' string',
    logging: ' string',
  };
  const lines = [`Usage: ${program} [OPTION]...`];
  for (const name of [...NAMES].sort((a, b) => (a < b ? -1 : 1))) {
    const { kind, initial, help }: Row = FLAGS[name];
    lines.push(`  -${name}${words[kind]}`, `    \t${help}${defaultText(kind, initial)}`);
  }
  return `${lines.join('\n')}\n`;
}

function defaultText(kind: Kind, initial: Value): string {
  if (kind === 'location') return ' (default :0)';
  if (typeof initial === 'object' || initial === '' || initial === 0 || initial === false) return '';
  return ` (default ${typeof initial === 'string' ? JSON.stringify(initial) : String(initial)})`;
}

/**
 * Go's flag syntax: `-x` is `--x`, `-x v` for all but booleans, the last use counts, and `--` or the first
 * argument that is no flag ends it. Returns the arguments behind that end, or 'help' where help is asked for.
 */
function parseArguments(argv: readonly string[], given: Map<FlagName, Value>): string[] | 'help' {
  const rest = [...argv];
  for (let arg = rest[0]; arg !== undefined && arg.length > 1 && arg.startsWith('-'); arg = rest[0]) {
    rest.shift();
    if (arg === '--') break;
    const [, name = '', value] = /^--?([^=]*)(?:=(.*))?$/s.exec(arg) ?? [];
    if (name === '' || name.startsWith('-')) {
      throw new UsageError(`bad flag syntax: ${arg}; write --name=value`);
    }
    if (!isFlag(name)) {
      if (name === 'help' || name === 'h') return 'help';
      throw new UsageError(`flag provided but not defined: -${name}; --help lists the flags`);
    }
    const flag: Row = FLAGS[name];
    const text = value ?? (flag.kind === 'bool' ? 'true' : rest.shift());
    if (text === undefined) throw new UsageError(`flag needs an argument: -${name}; write --${name}=value`);
    try {
      given.set(name, parseValue(flag, text, given.get(name) ?? []));
    } catch (error) {
      const shown = JSON.stringify(text);
      const problem =
        flag.kind === 'bool'
          ? `invalid boolean value ${shown} for -${name}`
          : `invalid value ${shown} for flag -${name}`;
      throw new UsageError(`${problem}; ${messageOf(error)}`, { cause: error });
    }
  }
  return rest;
}

/** @throws UsageError that says what to write; `before` is the list that a repeatable flag appends to. */
function parseValue(flag: Row, text: string, before: Value): Value {
  switch (flag.kind) {
    case 'list':
      return typeof before === 'object' ? [...before, text] : [text];
    case 'bool':
      if (/^(?:1|t|T|TRUE|true|True)$/.test(text)) return true;
      if (/^(?:0|f|F|FALSE|false|False)$/.test(text)) return false;
      throw new UsageError('write true or false');
    case 'int':
      return parseGoInteger(text);
    case 'level':
      if (!/^[+-]?\d+$/.test(text) || Math.abs(Number(text)) > 0x7fffffff) {
        throw new UsageError('write a whole decimal number, such as 2');
      }
      return Number(text);
    case 'vmodule':
      parseVmodule(text);
      return text;
    case 'location':
      parseBacktraceLocation(text);
      return text;
    case 'tier':
    case 'threads':
    case 'logging': {
      const choices: readonly string[] = CHOICES[flag.kind];
      if (!choices.includes(text)) throw new UsageError(`write one of ${choices.join(', ')}`);
      return text;
    }
    case 'features': {
      const words = text === '' ? [] : text.split(',');
      const known: readonly string[] = CHOICES.features;
      if (!words.every((word) => known.includes(word))) {
        throw new UsageError(`write names out of ${known.join(', ')}, separated by commas`);
      }
      return words;
    }
    case 'string':
      return text;
  }
}

/** An integer literal of Go: the base by its prefix (a leading zero is octal), underscores between digits. */
function parseGoInteger(text: string): number {
  const literal =
    /^[+-]?(?:0[xX](?:_?[\da-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0(?:_?[0-7])*|[1-9](?:_?\d)*)$/;
  if (!literal.test(text)) throw new UsageError('write a whole number, such as 60');
  const digits = text.replace(/^[+-]/, '').replaceAll('_', '');
  const value = Number(digits.replace(/^0(?=\d)/, '0o')) * (text.startsWith('-') ? -1 : 1);
  if (!Number.isSafeInteger(value)) throw new UsageError('value out of range: write a smaller number');
  return value === 0 ? 0 : value;
}

function isFlag(name: string): name is FlagName {
  return Object.hasOwn(FLAGS, name);
}

function camelCase(name: FlagName): string {
  return name.replace(/[-_](.)/g, (_, letter: string) => letter.toUpperCase());
}
