/** `flanneld doctor`: looks at everything that flanneld needs, in the order in which it breaks, and changes nothing. */
import type { Options } from '../flags.js';
import { configureLog } from '../log.js';
import { redact } from '../logging/redact.js';
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

/** @returns the exit status: 0 healthy, 3 warnings, 4 errors */
export async function doctor(
  options: Options,
  { json, peers }: { readonly json: boolean; readonly peers: boolean },
): Promise<number> {
  // What the parts of flanneld say while they are looked at is not what was asked for.
  configureLog({ write: () => undefined });
  const findings = (await examine(options, peers)).map(withoutSecrets);
  process.stdout.write(json ? formatJson(findings) : formatText(findings));
  return exitStatus(findings);
}

/** Findings are made to be shown around; endpoints and the errors about them may name a password. */
function withoutSecrets({ id, status, found, why, remedy }: Finding): Finding {
  return { id, status, found: redact(found), why, remedy: remedy && redact(remedy) };
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
