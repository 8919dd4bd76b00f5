/** What the kernel announces about nf_tables. Constants: linux/netfilter/nfnetlink.h, nf_tables.h, netfilter.h. */
import { openNetlinkEvents } from '../dataplane.js';
import { Message } from '../netlink/message.js';

const NFNLGRP_NFTABLES = 7;
const NFNL_SUBSYS_NFTABLES = 10;
const NFGENMSG_SIZE = 4;
const MSG = { NEWTABLE: 0, DELTABLE: 2, NEWCHAIN: 3, DELCHAIN: 5, NEWRULE: 6, DELRULE: 8 } as const;
/** NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and NFTA_RULE_TABLE. */
const NFTA_TABLE = 1;
const NFTA_CHAIN_NAME = 3;
const NFTA_RULE_CHAIN = 2;
const NFPROTO = new Map<number, 4 | 6>([
  [2, 4],
  [10, 6],
]);

/** Something was added to or removed from a table of nf_tables. */
export interface RulesetChange {
  /** Of IP. */
  readonly version: 4 | 6;
  readonly table: string;
  /** Null where it was the table itself. */
  readonly chain: string | null;
}

/** Null for what is no change of a table, chain or rule of IP. */
export function readRulesetChange(bytes: Uint8Array): RulesetChange | null {
  const message = new Message(bytes, NFGENMSG_SIZE);
  if (message.type >> 8 !== NFNL_SUBSYS_NFTABLES) return null;
  const version = NFPROTO.get(message.header.u8(0));
  const table = message.text(NFTA_TABLE);
  if (version === undefined || table === undefined) return null;
  switch (message.type & 0xff) {
    case MSG.NEWTABLE:
    case MSG.DELTABLE:
      return { version, table, chain: null };
    case MSG.NEWCHAIN:
    case MSG.DELCHAIN:
      return { version, table, chain: message.text(NFTA_CHAIN_NAME) ?? null };
    case MSG.NEWRULE:
    case MSG.DELRULE:
      return { version, table, chain: message.text(NFTA_RULE_CHAIN) ?? null };
    default:
      return null;
  }
}

/** Calls `changed` soon after one of the changes that matter, or after some that were missed. */
export function watchRuleset(
  matters: (change: RulesetChange) => boolean,
  changed: () => void,
): { close(): void } {
  const events = openNetlinkEvents('netfilter', [NFNLGRP_NFTABLES], () => {
    const { messages, overrun } = events.read();
    const isOurs = messages.some((bytes) => {
      const change = readRulesetChange(bytes);
      return change !== null && matters(change);
    });
    if (overrun || isOurs) changed();
  });
  return events;
}
