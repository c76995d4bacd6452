/**
 * The changes of a replica's state that every part of the core shares, and what it sends. PURE.
 *
 * What must be durable is changed here only, each change together with its `persist` effect, so that the
 * order of effects is the order in which things became true.
 */
import { invariant } from '../invariant.ts'
import type { Ballot, Configuration, Entry, LogIndex, LogRecord, NodeId } from '../vocabulary.ts'
import { compareBallots, logIndex, sameBallot } from '../vocabulary.ts'
import type { Position } from './events.ts'
import { append, createLog, entryAt, lastIndex, sameEntry, slice, truncateFrom } from './log.ts'
import type { Message } from './messages.ts'
import type { Replica } from './state.ts'

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

/** Asks for Prepare: one node, or all voters. Depends on nothing that is not durable: no sync. */
export function requestPrepare(replica: Replica, from: readonly NodeId[]): void {
  replica.lastPrepareRequest = replica.now
  for (const to of from) {
    send(replica, to, { kind: 'prepare-request', configuration: replica.configuration.id }, 'now')
  }
}
