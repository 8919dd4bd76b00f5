/** Settings of the kernel that let packets through, or do not. */
import { IPV4_ONLY } from '../iface/external-interface.js';
import { readSysctl } from '../sysctl.js';
import { forwardingSettings } from '../traffic/host-checks.js';
import { error, ok, skipped, warning } from './finding.js';
import type { Finding } from './finding.js';
import type { Observed } from './observe.js';

const STRICT = 1;

export function checkBridgeNetfilter({ store }: Observed): Finding {
  const id = 'br-netfilter';
  if (store.config?.enableNFTables === true) return ok(id, 'not needed with nftables');
  const value = readSysctl('net/bridge/bridge-nf-call-iptables');
  const why =
    'rules for services and policies do not see packets between containers on one bridge; stock flanneld does not start';
  if (value === null) {
    return warning(id, 'the module br_netfilter is not loaded', why, 'modprobe br_netfilter');
  }
  if (value === 0) {
    const set = 'sysctl -w net.bridge.bridge-nf-call-iptables=1';
    return warning(id, 'net.bridge.bridge-nf-call-iptables is 0', why, set);
  }
  return ok(id, 'bridged packets pass the rules');
}

export function checkForwarding({ owner, store }: Observed): Finding {
  const id = 'ip-forward';
  const families = store.config ?? IPV4_ONLY;
  const names = forwardingSettings(families);
  // IPv6 is forwarded by the setting of all interfaces alone.
  if (families.enableIPv4 && owner.device !== null)
    names.push(`net.ipv4.conf.${owner.device.name}.forwarding`);
  const off = names.filter((name) => readSysctl(name.replaceAll('.', '/')) === 0);
  if (off.length === 0) return ok(id, 'packets are forwarded');
  const why = 'packets are not passed on between the overlay and the containers of this host';
  return error(id, `${off.join(' and ')} is 0`, why, `sysctl -w ${off.map((name) => `${name}=1`).join(' ')}`);
}

export function checkReversePath({ external, owner }: Observed): Finding {
  const id = 'rp-filter';
  const names = [external?.name, owner.device?.name].filter((name) => name !== undefined);
  if (names.length === 0) return skipped(id, 'there is no interface to look at');
  const all = readSysctl('net/ipv4/conf/all/rp_filter') ?? 0;
  // The kernel takes the greater of the two.
  const strict = names.filter(
    (name) => Math.max(all, readSysctl(`net/ipv4/conf/${name}/rp_filter`) ?? 0) === STRICT,
  );
  if (strict.length === 0) return ok(id, 'not strict');
  return warning(
    id,
    `the reverse path filter of ${strict.join(' and ')} is strict (1)`,
    'packets are dropped where the way back leads through another interface, as it does for what other hosts send from ' +
      'their own address into the overlay',
    'sysctl -w net.ipv4.conf.all.rp_filter=2',
  );
}
