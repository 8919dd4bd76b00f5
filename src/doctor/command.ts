/** `flanneld doctor`: looks at everything that flanneld needs, in the order in which it breaks, and changes nothing. */
import { helpText, parseFlags } from '../flags.js';
import type { Options } from '../flags.js';
import { configureLog } from '../log.js';
import { checkClock } from './clock.js';
import type { Finding } from './finding.js';
import { checkFirewall } from './firewall/check.js';
import { checkCapabilities, checkFeatures, checkTun } from './kernel.js';
import { observe } from './observe.js';
import { checkInterface, checkMtu, checkPaths } from './path.js';
import { checkPeers } from './peers.js';
import { checkPort } from './port.js';
import { exitStatus, formatJson, formatText } from './report.js';
import { checkDaemon, checkPublicIp, checkSettings, checkStore } from './store.js';
import { checkBridgeNetfilter, checkForwarding, checkReversePath } from './sysctls.js';

const OWN_FLAGS = ['json', 'peers'] as const;
type OwnFlag = (typeof OWN_FLAGS)[number];

const OWN_HELP = `Usage: flanneld doctor [--json] [--peers] [OPTION]...
Give it the options of flanneld. Exit status: 0 healthy, 3 warnings, 4 errors; 1 doctor failed, 2 wrong usage.
  -json
    \tprint the findings as JSON
  -peers
    \tsend ICMP echoes of all sizes over the overlay to every other host
`;

/** @returns the exit status. @throws UsageError */
export async function doctor(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const asked = new Set<OwnFlag>();
  const others = args.filter((arg) => {
    const own = OWN_FLAGS.find((name) => arg === `-${name}` || arg === `--${name}`);
    if (own !== undefined) asked.add(own);
    return own === undefined;
  });
  const command = parseFlags(others, env);
  if (command.kind !== 'run') {
    process.stdout.write(OWN_HELP + helpText('flanneld').replace(/^.*\n/, ''));
    return 0;
  }
  // What the parts of flanneld say while they are looked at is not what was asked for.
  configureLog({ write: () => undefined });
  const findings = await examine(command.options, asked.has('peers'));
  process.stdout.write(asked.has('json') ? formatJson(findings) : formatText(findings));
  return exitStatus(findings);
}

async function examine(options: Options, withPeers: boolean): Promise<Finding[]> {
  const observed = await observe(options);
  return [
    checkFeatures(options),
    checkTun(),
    checkCapabilities(observed),
    checkBridgeNetfilter(observed),
    checkForwarding(observed),
    checkReversePath(observed),
    checkInterface(observed),
    checkPort(observed),
    checkFirewall(observed),
    checkStore(observed),
    checkSettings(observed),
    await checkClock(observed),
    checkPublicIp(observed),
    checkDaemon(observed),
    checkMtu(observed),
    checkPaths(observed),
    withPeers ? await checkPeers(observed) : [],
  ].flat();
}
