/** What the rules say, whatever program puts them into the kernel. */

/** One address family's part of the overlay. CIDRs are in network form and canonical. */
export interface OverlayFamily {
  readonly version: 4 | 6;
  /** The whole overlay network. */
  readonly network: string;
  /** This host's own subnet; null where it has none of this family, and hence nothing to masquerade. */
  readonly subnet: string | null;
}

/** Which of the rules are wanted. */
export interface RuleChoice {
  /** Masquerade what leaves the overlay, and what the host itself sends into it. */
  readonly masquerade: boolean;
  /** Accept what is forwarded to and from the overlay. */
  readonly forward: boolean;
  /** Leave the choice of a masqueraded connection's source port wholly to chance. */
  readonly randomFully: boolean;
}

/** Packets with this bit of the mark are masqueraded by Kubernetes. */
const MASQUERADED_MARK = '0x4000';

export const MULTICAST = { 4: '224.0.0.0/4', 6: 'ff00::/8' } as const;

/** A chain of ours in iptables, and the built-in chain that jumps to it. */
export interface ChainName {
  readonly table: 'nat' | 'filter';
  readonly parent: 'POSTROUTING' | 'FORWARD';
  readonly chain: string;
  /** By which a rule is known as ours. Has blanks, so that iptables-save quotes it. */
  readonly comment: string;
}

/** A chain with its rules, in order, as iptables-save shows them without `-A CHAIN`. */
export interface ChainRules extends ChainName {
  readonly rules: readonly string[];
}

export const MASQUERADE_CHAIN: ChainName = {
  table: 'nat',
  parent: 'POSTROUTING',
  chain: 'FLANNEL-POSTRTG',
  comment: 'flanneld masq',
};
export const FORWARD_CHAIN: ChainName = {
  table: 'filter',
  parent: 'FORWARD',
  chain: 'FLANNEL-FWD',
  comment: 'flanneld forward',
};

/** The match that every rule of a chain has. */
export function commentMatch({ comment }: ChainName): string {
  return `-m comment --comment "${comment}"`;
}

export function iptablesChains(family: OverlayFamily, choice: RuleChoice): ChainRules[] {
  const chains: ChainRules[] = [];
  if (choice.masquerade && family.subnet !== null) {
    chains.push({ ...MASQUERADE_CHAIN, rules: masqueradeRules(family, family.subnet, choice.randomFully) });
  }
  if (choice.forward) {
    const accept = `${commentMatch(FORWARD_CHAIN)} -j ACCEPT`;
    const { network } = family;
    chains.push({ ...FORWARD_CHAIN, rules: [`-s ${network} ${accept}`, `-d ${network} ${accept}`] });
  }
  return chains;
}

function masqueradeRules(
  { version, network }: OverlayFamily,
  subnet: string,
  randomFully: boolean,
): string[] {
  const comment = commentMatch(MASQUERADE_CHAIN);
  const masquerade = `${comment} -j MASQUERADE${randomFully ? ' --random-fully' : ''}`;
  return [
    `-m mark --mark ${MASQUERADED_MARK}/${MASQUERADED_MARK} ${comment} -j RETURN`,
    `-s ${subnet} -d ${network} ${comment} -j RETURN`,
    `-s ${network} -d ${subnet} ${comment} -j RETURN`,
    `! -s ${network} -d ${subnet} ${comment} -j RETURN`,
    `-s ${network} ! -d ${MULTICAST[version]} ${masquerade}`,
    `! -s ${network} -d ${network} ${masquerade}`,
  ];
}

/** A base chain of ours in nftables, with the rules as nft(8) takes them. */
export interface NftChain {
  readonly name: 'postrtg' | 'forward';
  readonly hook: string;
  readonly comment: string;
  readonly rules: readonly string[];
}

export function nftChains(family: OverlayFamily, choice: RuleChoice): NftChain[] {
  const chains: NftChain[] = [];
  const ip = family.version === 4 ? 'ip' : 'ip6';
  const { network, subnet } = family;
  if (choice.masquerade && subnet !== null) {
    const masquerade = `masquerade${choice.randomFully ? ' fully-random' : ''}`;
    chains.push({
      name: 'postrtg',
      hook: 'type nat hook postrouting priority 100; policy accept;',
      comment: 'chain to manage traffic masquerading by flannel',
      rules: [
        `meta mark & ${MASQUERADED_MARK} == ${MASQUERADED_MARK} return`,
        `${ip} saddr ${subnet} ${ip} daddr ${network} return`,
        `${ip} saddr ${network} ${ip} daddr ${subnet} return`,
        `${ip} saddr != ${network} ${ip} daddr ${subnet} return`,
        `${ip} saddr ${network} ${ip} daddr != ${MULTICAST[family.version]} ${masquerade}`,
        `${ip} saddr != ${network} ${ip} daddr ${network} ${masquerade}`,
      ],
    });
  }
  if (choice.forward) {
    chains.push({
      name: 'forward',
      hook: 'type filter hook forward priority 0; policy accept;',
      comment: 'chain to accept flannel traffic',
      rules: [`${ip} saddr ${network} accept`, `${ip} daddr ${network} accept`],
    });
  }
  return chains;
}
