/**
 * What a seed means for whole nodes: the world of plan.ts, clients, and how small the limits of the shell are.
 */
import { SESSION_EXPIRY_MILLISECONDS } from '../../src/machine/sessions.ts'
import { ELECTION_MILLISECONDS, type WorldPlan, adversaryOf } from './plan.ts'
import { Random } from './random.ts'
import type { ShellSettings } from './shell-node.ts'

export interface ShellPlan extends WorldPlan {
  readonly clients: number
  /** Mean time between two acts of a client. */
  readonly thinkMilliseconds: number
  /** How many of the faults of a wall clock are leaps beyond the life of a session. */
  readonly leapChance: number
  /** Messages travel as bytes. */
  readonly wire: boolean
  /** How long turns take; null: no time at all. */
  readonly turns: TurnTime | null
  readonly settings: ShellSettings
}

/** Means: each turn takes up to twice as long. */
export interface TurnTime {
  readonly milliseconds: number
  /** For each entry that the turn applies. */
  readonly entryMilliseconds: number
  /** The one node that is so slow; 0: all are. */
  readonly onlyNode: number
}

function turnTimeOf(seed: number): TurnTime | null {
  const random = new Random(seed ^ 0x7042)
  const kind = random.pick(['none', 'none', 'small', 'large', 'one'])!
  const share = random.next()
  const all = { milliseconds: 0.05 + share * 0.5, entryMilliseconds: random.next() * 0.2, onlyNode: 0 }
  if (kind === 'none') return null
  if (kind === 'small') return all
  const large = { ...all, milliseconds: 1 + share * 5, entryMilliseconds: random.next() }
  return kind === 'large' ? large : { ...large, onlyNode: random.integer(1, 4) }
}

/** How long silent sessions of nodes outside the configuration live, and how often their nodes say that they do. */
function sessionsOf(seed: number): { readonly isShort: boolean; readonly expiry: number; readonly keepAlive: number } {
  const random = new Random(seed ^ 0x5e55)
  const expiry = random.pick([SESSION_EXPIRY_MILLISECONDS, 50, 100, 200])!
  return { isShort: expiry < SESSION_EXPIRY_MILLISECONDS, expiry, keepAlive: random.pick([Infinity, expiry / 4])! }
}

/** Of commands on their way: in a block, of one node, and at the leader. */
function boundsOf(seed: number): {
  readonly blockBytes: number
  readonly inFlightBytes: number
  readonly forwardedBytes: number
} {
  const random = new Random(seed ^ 0xb0b)
  const blockBytes = random.pick([60, 1000, 100_000])!
  const forwardedBytes = blockBytes + random.pick([500, 100_000])!
  // What one node sends fits the leader's inbox, as with the limits of config.ts; what several send may not.
  return { blockBytes, inFlightBytes: Math.min(random.pick([blockBytes, 100_000])!, forwardedBytes), forwardedBytes }
}

export function shellPlanOf(seed: number): ShellPlan {
  const random = new Random(seed ^ 0x5e11)
  const level = (most: number): number => (random.chance(0.35) ? 0 : random.next() * most)
  const more = new Random(seed ^ 0x51de)
  const sessions = sessionsOf(seed)
  const { blockBytes, inFlightBytes, forwardedBytes } = boundsOf(seed)
  const plan = {
    ...adversaryOf(seed),
    seed,
    nodes: random.integer(3, 6),
    founders: random.integer(1, 4),
    clients: random.integer(3, 8),
    thinkMilliseconds: 1 + random.next() * 6,
    faultMilliseconds: 3000,
    silenceMilliseconds: sessions.expiry,
    network: {
      stream: random.chance(0.6),
      lossChance: level(0.06),
      doubleChance: level(0.1),
      delayMilliseconds: 0.5 + random.next() * 10,
      slowChance: level(0.04),
    },
    wire: random.chance(0.3),
    turns: turnTimeOf(seed),
    leapChance: new Random(seed ^ 0x1ea8).pick([0, 0.3])!,
    syncMilliseconds: 0.5 + random.next() * 8,
    rates: {
      crash: level(4),
      crashAll: level(0.4),
      partition: level(3),
      pause: level(2),
      // Nodes outside the configuration must be there.
      reconfigure: Math.max(level(3), sessions.isShort ? 2 : 0),
      transfer: level(2),
      checkpoint: level(8),
      clock: level(4),
      rot: level(1),
      slowDisk: more.pick([0, 0.5, 2])!,
      silence: sessions.isShort ? 8 : 0,
      crashInDisk: more.pick([0, 0, 1, 3])!,
      diskError: more.pick([0, 0, 0.5])!,
      fullDisk: more.pick([0, 0, 0.5])!,
    },
    settings: {
      consensus: {
        electionTimeoutMilliseconds: ELECTION_MILLISECONDS,
        resendMilliseconds: 30,
        readsLog: new Random(seed ^ 0x4ead).chance(0.5),
        maxBatchBytes: random.pick([500, 5000, 1_000_000])!,
        maxInFlightBytes: random.pick([1000, 20_000, 1_000_000])!,
        maxUndecidedBytes: random.pick([4000, 100_000])!,
        keepEntriesBytes: random.pick([0, 2000, 100_000])!,
        reconfigurationLagEntries: random.pick([0, 5, 50])!,
        // Who is outside fills the log with signs of life, and must be able to fetch those of all who are.
        fetchSegmentEntries: Math.max(random.pick([3, 20, 200])!, sessions.isShort ? 20 : 0),
      },
      relay: {
        outstandingCommands: random.pick([8, 1000])!,
        outstandingBytes: 100_000,
        blockBytes,
        inFlightBytes,
        resendMilliseconds: random.pick([60, 300])!,
        resendMostMilliseconds: 600,
        sessionKeepAliveMilliseconds: sessions.keepAlive,
      },
      turn: {
        entryBytes: random.pick([100, 2000, 100_000])!,
        applyBytes: random.pick([100, 100_000])!,
        unappliedEntries: new Random(seed ^ 0xb10c).pick([0, 3, 32])!,
        forwardedBytes,
      },
      machine: { maxMemoryBytes: 0, sessionExpiryMilliseconds: sessions.expiry },
      segmentBytes: random.pick([4096, 16_384, 65_536])!,
      writesBlocks: new Random(seed ^ 0xd15c).chance(0.5),
    },
  }
  return { ...plan, options: plan.settings.consensus }
}
