/**
 * A private world to build test hosts in: a network and a mount namespace of its own, which vanish with everything
 * in them when the last process inside has ended, however it ended. Without root it also gets a user namespace.
 */
import { spawn, spawnSync } from 'node:child_process';

const MARK = 'FLANNEL_LAB';

/** The command line that runs a command so that it ends with its parent, even where the parent is killed. */
export function dyingWithParent(command: string, args: readonly string[]): string[] {
  return ['setpriv', '--pdeathsig', 'SIGTERM', '--', command, ...args];
}

/** True inside a lab. */
export function inLab(): boolean {
  return process.env[MARK] !== undefined;
}

/**
 * Runs a command in a new lab and resolves with its exit status. Signals that reach this process are left to the
 * command: it shares the terminal, and SIGTERM is passed on.
 * @throws Error that says what this host does not allow.
 */
export async function runInLab(command: string, args: readonly string[]): Promise<number> {
  const inner = ['sh', '-c', ENTER, 'sh', ...dyingWithParent(command, args)];
  const child = spawn('unshare', [...namespaceFlags(), '--', ...inner], {
    stdio: 'inherit',
    env: { ...process.env, [MARK]: '1' },
  });
  const ignore = () => undefined;
  const passOn = () => child.kill('SIGTERM');
  process.on('SIGINT', ignore);
  process.on('SIGTERM', passOn);
  try {
    return await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code) => {
        resolve(code ?? 1);
      });
    });
  } finally {
    process.off('SIGINT', ignore);
    process.off('SIGTERM', passOn);
  }
}

// `ip netns` keeps its names under /run/netns: with a /run of its own the lab leaves no name on this host.
const ENTER = 'mount -t tmpfs tmpfs /run && mkdir /run/netns && ip link set lo up && exec "$@"';

function namespaceFlags(): string[] {
  const flags = ['--net', '--mount'];
  const asUser = ['--user', '--map-root-user', ...flags];
  const attempts = process.getuid?.() === 0 ? [flags, asUser] : [asUser];
  const problems: string[] = [];
  for (const attempt of attempts) {
    const { status, stderr, error } = spawnSync('unshare', [...attempt, 'true'], { encoding: 'utf8' });
    if (status === 0) return attempt;
    problems.push((error?.message ?? stderr).trim());
  }
  throw new Error(
    `cannot make network namespaces (${problems.join('; ')}): run this as root, or allow unprivileged user ` +
      'namespaces (sysctl kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0)',
  );
}
