/**
 * What a seed means: how large the cluster is, how bad its world. The part that both simulations share, and the plan
 * of the core's; that of whole nodes is in shell-plan.ts.
 *
 * Each group of numbers comes from a random source of its own, so that a new fault leaves the others as they were.
 */
import { CLOCK_RATE_ERROR } from '../../src/consensus/leases.ts'
import type { Options } from '../../src/consensus/replica.ts'
import type { NetworkOptions } from './network.ts'
import { Random } from './random.ts'

export const ELECTION_MILLISECONDS = 100

/** What is done to the world, at random times; see faults.ts. */
export type Fault =
  | 'crash'
  | 'crashAll'
  | 'partition'
  | 'pause'
  | 'slowDisk'
  | 'rot'
  | 'checkpoint'
  | 'reconfigure'
  | 'transfer'
  | 'silence'
  | 'clock'
  | 'crashInDisk'
  | 'diskError'
  | 'fullDisk'

export interface WorldPlan {
  readonly seed: number
  /** Nodes at a time, at most. */
  readonly nodes: number
  readonly founders: number
  readonly faultMilliseconds: number
  readonly network: NetworkOptions
  readonly syncMilliseconds: number
  /** Faults a second of virtual time, each. */
  readonly rates: Readonly<Record<Fault, number>>
  /** Chance that something is done to a node just when it is about to matter: it leads, it accepts, it installs. */
  readonly ambushChance: number
  /** Chance that the end of a node or of a link shows as a closed connection; nodes are also told of what is not so. */
  readonly closedChance: number
  /** Connections a second that close without a reason, and are made anew. */
  readonly blipRate: number
  /** In peace one voter stays away, where the others can do without (the core only). */
  readonly lacksOne: boolean
  /** Frames a second that are large for their link: others wait behind them, and both ends see that they move. */
  readonly largeFrameRate: number
  /** Monotonic clocks run too fast or too slow by up to this share; 0: they are true. */
  readonly clockRateError: number
  /** Chance that a configuration has fewer voters accept than a majority. */
  readonly flexibleChance: number
  /** How long a node outside the configuration is out of touch, at least, in a silence. */
  readonly silenceMilliseconds: number
  /** How long leases last, where configurations have them; 0: none. */
  readonly leaseMilliseconds: number
  readonly options: Partial<Options>
}

/** The part of a plan that has nothing to do with what the nodes are. */
export function adversaryOf(
  seed: number,
): Pick<
  WorldPlan,
  | 'ambushChance'
  | 'closedChance'
  | 'blipRate'
  | 'largeFrameRate'
  | 'lacksOne'
  | 'clockRateError'
  | 'flexibleChance'
  | 'leaseMilliseconds'
> {
  const random = new Random(seed ^ 0xadd1)
  const connections = new Random(seed ^ 0xc105ed)
  return {
    closedChance: connections.pick([0, 0.5, 1])!,
    blipRate: connections.pick([0, 2, 20])!,
    largeFrameRate: new Random(seed ^ 0xf4a3e).pick([0, 0, 0, 0, 1, 6])!,
    lacksOne: new Random(seed ^ 0xab5e47).chance(0.2),
    ambushChance: random.pick([0, 0, 0.05, 0.2, 0.4])!,
    clockRateError: random.pick([0, 0.001, CLOCK_RATE_ERROR, CLOCK_RATE_ERROR])!,
    flexibleChance: random.pick([0, 0.5])!,
    leaseMilliseconds: random.pick([0, 30, 90, 300])!,
  }
}

/** What the members of a configuration of so many voters agree on, beside who they are. A function of the seed. */
export function configurationRules(
  plan: WorldPlan,
  voters: number,
): { readonly acceptQuorum?: number; readonly leaseMilliseconds?: number } {
  const random = new Random(plan.seed ^ (0xf1e8 + voters))
  const most = Math.floor(voters / 2) + 1
  const accept = random.integer(Math.min(2, most), most)
  const isFlexible = random.chance(plan.flexibleChance) && accept < most
  // Leases begin, end and become others with the configurations.
  const lease = Math.floor(plan.leaseMilliseconds * random.pick([1, 1, 0.5, 0])!)
  return { ...(isFlexible ? { acceptQuorum: accept } : {}), ...(lease > 0 ? { leaseMilliseconds: lease } : {}) }
}

/** The plan of a seed for the core alone. */
export function planOf(seed: number): WorldPlan {
  const random = new Random(seed)
  const level = (most: number): number => (random.chance(0.35) ? 0 : random.next() * most)
  const more = new Random(seed ^ 0x51de)
  return {
    ...adversaryOf(seed),
    seed,
    nodes: random.integer(3, 7),
    founders: random.integer(1, 5),
    faultMilliseconds: 4000,
    silenceMilliseconds: 0,
    network: {
      stream: random.chance(0.5),
      lossChance: level(0.1),
      doubleChance: level(0.1),
      delayMilliseconds: 1 + random.next() * 15,
      slowChance: level(0.05),
    },
    syncMilliseconds: 0.5 + random.next() * 10,
    rates: {
      crash: level(4),
      partition: level(4),
      pause: level(2),
      reconfigure: level(4),
      transfer: level(2),
      checkpoint: level(6),
      rot: level(1),
      crashAll: level(0.3),
      slowDisk: more.pick([0, 0.5, 2])!,
      silence: 0,
      clock: 0,
      crashInDisk: 0,
      diskError: 0,
      fullDisk: 0,
    },
    options: {
      electionTimeoutMilliseconds: ELECTION_MILLISECONDS,
      resendMilliseconds: 30,
      readsLog: new Random(seed ^ 0x4ead).chance(0.3),
      maxBatchBytes: random.pick([100, 1000, 100_000])!,
      maxInFlightBytes: random.pick([200, 5000, 100_000])!,
      maxUndecidedBytes: 20_000,
      keepEntriesBytes: random.pick([0, 300, 10_000])!,
      reconfigurationLagEntries: random.pick([0, 5, 50])!,
      fetchSegmentEntries: random.pick([3, 20, 200])!,
    },
  }
}
