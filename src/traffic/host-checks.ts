/** What of the host decides whether rules can work. */
import { statSync } from 'node:fs';
import type { NetworkConfig } from '../config.js';
import { FlannelError, messageOf } from '../errors.js';
import { log } from '../log.js';
import { readSysctl } from '../sysctl.js';

type Families = Pick<NetworkConfig, 'enableIPv4' | 'enableIPv6'>;

const BRIDGE = '/proc/sys/net/bridge';

/**
 * Without br_netfilter, packets between containers on one bridge pass by all rules.
 * @throws FlannelError with the remedy.
 */
export function checkBridgeFilter({ enableIPv4, enableIPv6 }: Families): void {
  const files = [
    ...(enableIPv4 ? [`${BRIDGE}/bridge-nf-call-iptables`] : []),
    ...(enableIPv6 ? [`${BRIDGE}/bridge-nf-call-ip6tables`] : []),
  ];
  for (const file of files) {
    try {
      statSync(file);
    } catch (error) {
      throw new FlannelError(
        `Failed to check br_netfilter: ${messageOf(error)}; load it with \`modprobe br_netfilter\``,
        { cause: error },
      );
    }
  }
}

/** The settings by which the kernel passes on packets of the families that the network has inside. */
export function forwardingSettings({ enableIPv4, enableIPv6 }: Families): string[] {
  return [
    ...(enableIPv4 ? ['net.ipv4.ip_forward'] : []),
    ...(enableIPv6 ? ['net.ipv6.conf.all.forwarding'] : []),
  ];
}

/**
 * A host that does not forward keeps its containers off the overlay, but whether it has any only its owner knows.
 * @param read as readSysctl()
 */
export function warnWithoutForwarding(families: Families, read = readSysctl): void {
  for (const setting of forwardingSettings(families)) {
    if (read(setting.replaceAll('.', '/')) !== 0) continue;
    log.warning(
      `this host forwards no packets, so containers on it cannot use the overlay: \`sysctl -w ${setting}=1\``,
    );
  }
}
