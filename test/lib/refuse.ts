import { compileLibrary, compileProgram } from '../../bench/tools.js';

/** What refuse.c can take away. */
export type Refusable = 'sendmmsg' | 'recvmmsg' | 'UDP_SEGMENT' | 'UDP_GRO' | 'TUN_F_USO' | 'TUNSETOFFLOAD';

/** A wrapper for commands, behind which the kernel refuses these calls as one does that never had them. */
export async function refusing(calls: readonly Refusable[]): Promise<string[]> {
  return [await compileProgram('test/lib/refuse.c'), calls.join(','), '--'];
}

/**
 * A wrapper for commands, behind which the kernel takes `passes` runs of datagrams (gso) or super-packets of TCP (tso),
 * and refuses all that follow.
 */
export async function refusingLater(feature: 'gso' | 'tso', passes: number): Promise<string[]> {
  const library = await compileLibrary('test/lib/refuse-later.c');
  return ['env', `LD_PRELOAD=${library}`, `REFUSE_LATER=${feature}:${passes}`];
}
