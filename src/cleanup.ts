/** `flanneld cleanup`: removes what a flanneld that was killed, or was told to leave it, has left on this host. */
import { rmSync } from 'node:fs';
import { controlSocketPath, statusSocketPath } from './socket-paths.js';
import { findOwner } from './dataplane.js';
import { FlannelError } from './errors.js';
import type { Options } from './flags.js';
import { log } from './log.js';
import { Rtnetlink } from './netlink/rtnetlink.js';
import type { Link } from './netlink/rtnetlink.js';
import { removeTrafficRules } from './traffic/traffic-rules.js';

/** The names that the kernel makes of the backend's template. */
const OUR_NAME = /^flannel\d+$/;

/** @throws FlannelError while a flanneld, or one that stands by for it, is at work. */
export async function cleanUp(options: Options): Promise<void> {
  const path = controlSocketPath(options);
  const { alive, device } = path === null ? { alive: false, device: null } : findOwner(path);
  if (alive) {
    throw new FlannelError(
      `a flanneld or its standby is at work at ${path ?? ''}; end it first (\`fuser ${path ?? ''}.lock\` names it)`,
    );
  }
  const netlink = new Rtnetlink();
  try {
    for (const { index, name } of netlink.links().filter((link) => isLeftOver(link, device))) {
      netlink.deleteLink(index);
      log.info(`Removed the device ${name} with its addresses and routes`);
    }
  } finally {
    netlink.close();
  }
  await removeTrafficRules(options.subnetFile);
  for (const file of [path, path && `${path}.lock`, statusSocketPath(options)]) {
    if (file !== null) rmSync(file, { force: true });
  }
}

/** A TUN device that outlived its process: no other program makes one of that kind under such a name. */
function isLeftOver({ name, tun }: Link, device: string | null): boolean {
  return tun !== null && tun.persistent && tun.queues === 0 && (name === device || OUR_NAME.test(name));
}
