/**
 * The state of a replica, and the few acts on it that every part of the core shares. PURE.
 *
 * What must be durable is changed here only, each change together with its `persist` effect, so that the
 * order of effects is the order in which things became true.
 */
import { invariant } from '../invariant.ts'
import {
  type Ballot,
  type Configuration,
  type Entry,
  type LogIndex,
  type LogRecord,
  type NodeId,
  compareBallots,
  logIndex,
  sameBallot,
  type Room,
} from '../vocabulary.ts'
import type { Fetch, Migration } from './catch-up.ts'
import type { Recall } from './doubt.ts'
import type { Election } from './election.ts'
import type { Effect, Milliseconds, Position } from './events.ts'
import type { Leadership } from './leader.ts'
import type { Grant } from './leases.ts'
import { type Log, append, createLog, entryAt, lastIndex, sameEntry, slice, truncateFrom } from './log.ts'
import type { Message, Prepare } from './messages.ts'
import { isVoter } from './quorum.ts'
import type { PendingRead } from './reads.ts'

export interface Options {
  /** A heartbeat round; a leader that is out of sight for one to two of them is replaced. */
  readonly electionTimeoutMilliseconds: number
  /** How long something unanswered waits until it is sent again; also the period of the leader's beacon. */
  readonly resendMilliseconds: number
  /** Breaks ties between candidates of the same n; larger wins. */
  readonly priority: number
  /** Largest sum of entries in one message (one entry always fits). */
  readonly maxBatchBytes: number
  /** Entries sent to one follower and not yet accepted by it. */
  readonly maxInFlightBytes: number
  /** Entries proposed and not yet decided; beyond it no proposal is taken. */
  readonly maxUndecidedBytes: number
  /** Entries kept in memory although nobody here needs them, for peers that lag a little. */
  readonly keepEntriesBytes: number
  /** Whether storage reads back what is no longer in memory: the shell answers `read-log`. */
  readonly readsLog: boolean
  /** A stop-sign is proposed when a quorum of the new voters lags by no more than this. */
  readonly reconfigurationLagEntries: number
  /** Decided entries asked of one node at a time. */
  readonly fetchSegmentEntries: number
}

export const DEFAULT_OPTIONS: Options = {
  electionTimeoutMilliseconds: 300,
  resendMilliseconds: 100,
  priority: 0,
  maxBatchBytes: 1024 * 1024,
  maxInFlightBytes: 8 * 1024 * 1024,
  maxUndecidedBytes: 32 * 1024 * 1024,
  keepEntriesBytes: 16 * 1024 * 1024,
  readsLog: false,
  reconfigurationLagEntries: 256,
  fetchSegmentEntries: 512,
}

/**
 * What a voter does in its configuration; everyone else is `idle`.
 * - `recover`: does not know what the leader has; asks for Prepare, or fetches first.
 * - `promised`: has promised, and waits for AcceptSync.
 * - `accept`: holds a prefix of the leader's log and follows it.
 * - `lead`: see `leadership`.
 */
export type Phase = 'idle' | 'recover' | 'promised' | 'accept' | 'lead'

/** Mutable, owned by the shell, changed by `step` only. */
export interface Replica {
  readonly self: NodeId
  /** Another number at each start of this node. */
  readonly start: number
  readonly options: Options
  now: Milliseconds
  /** Of the step under way, in order. */
  effects: Effect[]

  log: Log
  promise: Ballot
  acceptedBallot: Ballot
  /** Known to be decided, and in the log. */
  known: LogIndex
  /** Decided, in the log, and durable here: what the shell may apply. */
  decided: LogIndex
  configuration: Configuration
  configurationStart: LogIndex
  /** Not null: entries (and promises) after it may be lost to rot; until the next AcceptSync. */
  doubtfulFrom: LogIndex | null
  promiseLost: boolean
  room: Room
  /** When a promise was last said. */
  promisedAt: Milliseconds
  /** Voters that said that their disk is nearly full. */
  readonly fullPeers: Set<NodeId>
  /** Not null: what was promised is not known yet. */
  recall: Recall | null
  /** Decided entries up to here have been looked through for stop-signs. */
  lookedThrough: number

  /** What storage has confirmed. */
  durable: LogIndex
  durableBallot: Ballot
  durablePromise: Ballot
  generation: number
  /** The last `decided` record, and when. */
  recordedDecided: LogIndex
  recordedAt: Milliseconds

  phase: Phase
  election: Election
  leadership: Leadership | null
  /** The lease that this voter has granted. */
  grant: Grant
  /** A candidate that waits for the end of that lease. */
  heldPrepare: { readonly from: NodeId; readonly message: Prepare } | null
  /** The ballot whose elected leader was heard of; null: none, or out of sight. */
  followed: Ballot | null
  reads: PendingRead[]
  fetch: Fetch
  readonly migration: Migration
  /** Messages of a configuration that has not started here yet, kept for its start. */
  early: { readonly from: NodeId; readonly message: Prepare } | null
  /** This replica is to lead the configuration of that id as soon as it starts here; 0: none. */
  leadsFrom: number
  /** Was named by a configuration (or has voted) and is not any more. */
  removed: boolean
  /** What was decided when this process rejoined; null: it has not yet. */
  rejoinedAt: LogIndex | null
  lastHeard: Map<NodeId, Milliseconds>
  /** When bytes of a large message last went to these, or came from them. */
  lastMoved: Map<NodeId, Milliseconds>
  /** The connection to these was closed, and nothing was heard of them since. */
  unreachable: Set<NodeId>
  lastPrepareRequest: Milliseconds
  lastResend: { from: number; at: Milliseconds }
  announced: { leader: NodeId | null; ballot: Ballot }
}

export function send(replica: Replica, to: NodeId, message: Message, when: 'now' | 'after-sync'): void {
  replica.effects.push({ kind: 'send', to, message, afterSync: when === 'after-sync' })
}

export function persist(replica: Replica, record: LogRecord): void {
  replica.effects.push({ kind: 'persist', record })
}

/** Writes down what is decided, along with something that is written anyway or after a while of silence. */
export function recordDecided(replica: Replica): void {
  if (replica.recordedDecided >= replica.decided) return
  replica.recordedDecided = replica.decided
  replica.recordedAt = replica.now
  persist(replica, { kind: 'decided', index: replica.decided })
}

/** Promises `ballot`. What depends on it may leave after the next sync only. */
export function promise(replica: Replica, ballot: Ballot): void {
  invariant(compareBallots(ballot, replica.promise) > 0, 'a promise never goes back')
  replica.promise = ballot
  // In another ballot the log may be replaced above what is decided here.
  replica.known = replica.decided
  rejoinAnew(replica)
  persist(replica, { kind: 'promise', ballot })
}

/**
 * It had rejoined with what it adopted, or with the log of a leader that was out of date, perhaps: the next leader may
 * have adopted less, and may know of more.
 */
export function rejoinAnew(replica: Replica): void {
  if (replica.decided < (replica.rejoinedAt ?? 0)) replica.rejoinedAt = null
}

export function appendEntries(replica: Replica, entries: readonly Entry[]): void {
  if (entries.length === 0) return
  recordDecided(replica)
  append(replica.log, entries)
  persist(replica, { kind: 'entries', entries })
}

/**
 * One atomic act: the accepted ballot becomes `ballot`, and the log from `from` on becomes `entries`. What is
 * there already is left alone, so that a usual change of leader replaces nothing.
 */
export function replaceSuffix(replica: Replica, ballot: Ballot, from: LogIndex, entries: readonly Entry[]): void {
  const log = replica.log
  let base: number = from
  let skip = 0
  while (skip < entries.length) {
    const mine = entryAt(log, base)
    if (base > replica.decided && (mine === undefined || !sameEntry(mine, entries[skip]!))) break
    base++
    skip++
  }
  base = Math.max(base, replica.decided + 1)
  invariant(base <= lastIndex(log) + 1, `a suffix from ${base} leaves a gap after ${lastIndex(log)}`)
  const rest = entries.slice(skip)
  recordDecided(replica)
  truncateFrom(log, base)
  append(log, rest)
  // What was learned, and is not durable, is gone with the rest: what takes its place is not known to be decided. This
  // leader may be out of date, or of a configuration that is over. It is learned again.
  replica.known = logIndex(Math.min(replica.known, base - 1))
  expectNoMore(replica)
  replica.acceptedBallot = ballot
  replica.durable = logIndex(Math.min(replica.durable, base - 1))
  replica.generation++
  persist(replica, { kind: 'accept-sync', ballot, base: logIndex(base), entries: rest })
}

/** What is gone from the log was not decided: nobody waits for it to be. */
function expectNoMore(replica: Replica): void {
  if (replica.rejoinedAt !== null) replica.rejoinedAt = logIndex(Math.min(replica.rejoinedAt, lastIndex(replica.log)))
}

/**
 * Takes entries that are decided, contiguous, the first one no later than `known + 1`. Only a suffix that
 * contradicts them is dropped: it cannot have been chosen, and neither can anything behind it.
 */
export function learn(replica: Replica, entries: readonly Entry[]): void {
  const last = entries.at(-1)
  if (last === undefined || last.index <= replica.known) return
  const fresh = entries.filter((entry) => entry.index > replica.known)
  invariant(fresh[0]!.index === replica.known + 1, 'learned entries join what is known')
  const at = fresh.findIndex((entry) => {
    const mine = entryAt(replica.log, entry.index)
    return mine === undefined || !sameEntry(mine, entry)
  })
  if (at >= 0) {
    const rest = fresh.slice(at)
    if (rest[0]!.index === lastIndex(replica.log) + 1) appendEntries(replica, rest)
    else replaceSuffix(replica, replica.acceptedBallot, rest[0]!.index, rest)
  }
  replica.known = last.index
  advanceDecided(replica)
}

/** Hears that everything up to `index` of the log that is followed is decided. */
export function hearDecided(replica: Replica, index: number): void {
  const known = Math.min(index, lastIndex(replica.log))
  if (known > replica.known) replica.known = logIndex(known)
  advanceDecided(replica)
}

/** Lets `decided` follow what is known and durable, and tells the shell. */
export function advanceDecided(replica: Replica): void {
  const index = logIndex(Math.min(replica.known, replica.durable))
  if (index <= replica.decided) return
  replica.decided = index
  replica.effects.push({ kind: 'decided', index })
}

/** Starts configuration `configuration` here: in force from the entry after `start`. */
export function enterConfiguration(replica: Replica, configuration: Configuration, start: LogIndex): void {
  recordDecided(replica)
  replica.configuration = configuration
  replica.configurationStart = start
  persist(replica, { kind: 'configuration', configuration, start })
  replica.effects.push({ kind: 'configuration-changed', configuration, start })
}

/**
 * A checkpoint up to `index` takes the place of the log up to there. What was accepted above it stays, in one
 * atomic act (records of one step go to storage as one frame): it may have been chosen, and this copy may
 * count. Only where the checkpoint belongs to a later configuration is there nothing to keep: of an earlier
 * one everything is decided, and covered.
 */
export function replaceByCheckpoint(
  replica: Replica,
  index: LogIndex,
  configuration: Configuration,
  start: LogIndex,
): void {
  const later = configuration.id > replica.configuration.id
  const kept = later ? [] : slice(replica.log, index + 1, lastIndex(replica.log), Infinity)
  replica.log = createLog(logIndex(index + 1), kept)
  expectNoMore(replica)
  replica.known = index
  replica.decided = index
  replica.durable = index
  replica.recordedDecided = index
  replica.lookedThrough = index
  replica.generation++
  if (replica.doubtfulFrom !== null) replica.doubtfulFrom = logIndex(Math.max(replica.doubtfulFrom, index + 1))
  persist(replica, { kind: 'installed', index, configuration, start })
  if (kept.length > 0) persist(replica, { kind: 'entries', entries: kept })
}

/** Takes note of what storage has confirmed; false where it says nothing about the log as it is now. */
export function takePersisted(replica: Replica, position: Position): boolean {
  if (compareBallots(position.promise, replica.durablePromise) > 0) replica.durablePromise = position.promise
  if (position.generation !== replica.generation || !sameBallot(position.acceptedBallot, replica.acceptedBallot)) {
    return false
  }
  const moved = position.index > replica.durable || !sameBallot(replica.durableBallot, replica.acceptedBallot)
  replica.durable = logIndex(Math.max(replica.durable, position.index))
  replica.durableBallot = replica.acceptedBallot
  return moved
}

/** The other voters of the current configuration. */
export const peers = (replica: Replica): NodeId[] =>
  replica.configuration.voters.map((member) => member.id).filter((id) => id !== replica.self)

/**
 * It may hold less than all up to the stop-sign that began its configuration: rot took it, or it has joined and was told
 * of this configuration (the start of any but the first one is 0 until it comes upon the stop-sign).
 */
export const holdsPrefix = ({ configuration, configurationStart, decided }: Replica): boolean =>
  decided >= configurationStart && (configurationStart > 0 || configuration.id === 1)

/**
 * Whether this replica has a say in its configuration: who does not hold all up to the stop-sign that began it has
 * none. Others may still have to decide that stop-sign, and would wait for it in vain.
 */
export const votes = (replica: Replica): boolean => isVoter(replica.configuration, replica.self) && holdsPrefix(replica)

/** The configuration that a stop-sign at the end of the log is about to start, decided or not; null: none. */
export function pendingConfiguration(replica: Replica): Configuration | null {
  const last = replica.log.entries.at(-1)
  return last?.kind === 'stop-sign' && last.next.id > replica.configuration.id ? last.next : null
}

/** Heard of lately, and not known to be gone: a message to it is likely to arrive. */
export function isInSight(replica: Replica, id: NodeId): boolean {
  if (id === replica.self) return true
  const heard = replica.lastHeard.get(id) ?? -Infinity
  return replica.now - heard <= 2 * replica.options.electionTimeoutMilliseconds && !replica.unreachable.has(id)
}

export const isLeading = (replica: Replica): boolean => replica.leadership?.phase === 'accept'

/** Asks for Prepare: one node, or all voters. Depends on nothing that is not durable: no sync. */
export function requestPrepare(replica: Replica, from: readonly NodeId[]): void {
  replica.lastPrepareRequest = replica.now
  for (const to of from) {
    send(replica, to, { kind: 'prepare-request', configuration: replica.configuration.id }, 'now')
  }
}
