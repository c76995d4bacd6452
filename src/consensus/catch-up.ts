/**
 * Fetching decided entries from any node that has them, from several at once. PURE.
 *
 * What is decided is decided: it may be taken from anyone, in any phase but where a leader's log is followed
 * (or led) already. Used by learners, which poll at their tip; by nodes that must reach the stop-sign of an
 * older configuration; by voters too far behind for one AcceptSync; by a candidate that is behind the log
 * it must adopt. The gap is cut into segments, one at a time asked of each source; what comes early waits.
 */
import type { Configuration, Entry, LogIndex, NodeId } from '../vocabulary.ts'
import { ZERO_BALLOT, compareBallots, logIndex } from '../vocabulary.ts'
import { bytesOf, fits, slice } from './log.ts'
import type { DecidedEntries, FetchDecided, NoLongerHere } from './messages.ts'
import { isLearner, isVoter } from './quorum.ts'
import { takesEntries } from './room.ts'
import { learn, replaceByCheckpoint, send } from './changes.ts'
import { type Fetch, type Replica, isInSight, isLeading, votes } from './state.ts'

export const createFetch = (): Fetch => ({
  goal: 0,
  hinted: new Set(),
  pending: new Map(),
  buffered: new Map(),
  bufferedBytes: 0,
  avoided: new Map(),
  polledAt: -Infinity,
  turn: 0,
  invitedUntil: -Infinity,
  askedCheckpointAt: -Infinity,
})

/** Segments that are fetched and wait for one before them: at most this many segments ahead. */
const WINDOW_SEGMENTS = 8
/** A gap is cut so that every source has a part of it, but no smaller than this. */
const SEGMENT_LEAST_ENTRIES = 16

/** `from` has decided up to `goal`: get there. */
export function hint(replica: Replica, from: NodeId, goal: number): void {
  const { fetch } = replica
  if (from !== replica.self) fetch.hinted.add(from)
  fetch.goal = Math.max(fetch.goal, goal)
  pump(replica)
}

/** Whoever follows, is about to, or leads in the accept phase, gets its log from there. */
const mayLearn = (replica: Replica): boolean =>
  replica.phase !== 'accept' && replica.phase !== 'promised' && !isLeading(replica)

const isInvited = (replica: Replica): boolean => replica.now < replica.fetch.invitedUntil

/** Learners poll for entries; nodes that were removed ask only who leads, so that they can forward. */
function pollPeriod(replica: Replica): number {
  const timeout = replica.options.electionTimeoutMilliseconds
  if (votes(replica)) return Infinity
  if (isInvited(replica)) return timeout / 20
  return replica.removed ? timeout / 2 : timeout / 5
}

function sources(replica: Replica): NodeId[] {
  const { configuration, fetch, followed, self, now } = replica
  const all = new Set<NodeId>([...configuration.voters.map((member) => member.id), ...fetch.hinted])
  // Whoever leads knows the newest configuration; those that this node knows of may all have left since.
  if (followed !== null) all.add(followed.node)
  return [...all].filter((id) => id !== self && (fetch.avoided.get(id) ?? -Infinity) <= now)
}

/** Asks for what is missing, of every source that has nothing to do. A question depends on nothing durable. */
export function pump(replica: Replica): void {
  const { fetch, options } = replica
  if (!mayLearn(replica) || !takesEntries(replica)) return
  drain(replica)
  if (hasEnough(replica)) return
  const idle = sources(replica).filter((id) => !fetch.pending.has(id))
  // Who was heard of comes first: a question to another may be lost, and nobody waits for its answer (see nextGap).
  const seen = idle.filter((id) => isInSight(replica, id))
  const unseen = idle.filter((id) => !isInSight(replica, id))
  const passive = replica.removed && !isInvited(replica)
  const limit = passive ? 0 : Math.min(fetch.goal, replica.known + WINDOW_SEGMENTS * options.fetchSegmentEntries)
  const share = Math.ceil((limit - replica.known) / Math.max(1, sources(replica).length))
  const most = Math.min(options.fetchSegmentEntries, Math.max(share, SEGMENT_LEAST_ENTRIES))
  let cursor = replica.known + 1
  while (seen.length + unseen.length > 0 && cursor <= limit) {
    const gap = nextGap(replica, cursor, limit)
    if (gap === null) break
    // What waits has a bound in bytes; what it waits for is asked for all the same.
    if (gap.from > replica.known + 1 && fetch.bufferedBytes >= options.maxInFlightBytes) break
    const upTo = Math.min(gap.upTo, gap.from + most - 1)
    const from = seen.length > 0 ? seen : unseen
    ask(replica, from.splice(fetch.turn++ % from.length, 1)[0]!, gap.from, upTo)
    cursor = upTo + 1
  }
  if (fetch.goal > replica.known && !passive) return
  if (idle.length === 0 || replica.now - fetch.polledAt < pollPeriod(replica)) return
  fetch.polledAt = replica.now
  const from = replica.known + 1
  const preferred = replica.followed === null ? undefined : idle.find((id) => id === replica.followed!.node)
  const to = preferred ?? idle[fetch.turn++ % idle.length]!
  ask(replica, to, from, passive ? from - 1 : replica.known + options.fetchSegmentEntries)
}

/**
 * Whether no more is asked for: what was learned, and is not durable here or held up by what is still to be applied, has
 * a bound. The shell tells later what storage has while it applies more slowly than it is sent.
 */
function hasEnough({ log, decided, known, options }: Replica): boolean {
  const isMany = known - decided >= 2 * WINDOW_SEGMENTS * options.fetchSegmentEntries
  return isMany || !fits(log, decided + 1, known, options.maxUndecidedBytes)
}

/** The first stretch from `cursor` on that is neither asked for, of a node that will answer, nor here. */
function nextGap(replica: Replica, cursor: number, limit: number): { from: number; upTo: number } | null {
  const { pending, buffered } = replica.fetch
  const answering = [...pending].filter(([id]) => isInSight(replica, id))
  const taken = answering.map(([, { from, upTo }]) => ({ from, upTo }))
  for (const [from, entries] of buffered) taken.push({ from, upTo: from + entries.length - 1 })
  taken.sort((a, b) => a.from - b.from)
  let from = cursor
  for (const one of taken) {
    if (one.upTo < from) continue
    if (one.from > from) return { from, upTo: Math.min(one.from - 1, limit) }
    from = one.upTo + 1
  }
  return from <= limit ? { from, upTo: limit } : null
}

function ask(replica: Replica, to: NodeId, from: number, upTo: number): void {
  replica.fetch.pending.set(to, { from, upTo, at: replica.now })
  const { decided } = replica
  send(replica, to, { kind: 'fetch-decided', from: logIndex(from), upTo: logIndex(upTo), decided }, 'now')
}

/** Serves anyone who is let in: a node that is to join is in no configuration yet. What is sent is decided and durable. */
export function onFetchDecided(replica: Replica, from: NodeId, message: FetchDecided): void {
  replica.leadership?.reports.set(from, message.decided)
  const { log, decided, options, configuration, configurationStart } = replica
  const isNamed = isVoter(configuration, from) || isLearner(configuration, from)
  if (message.upTo < message.from && message.decided < configurationStart && isNamed) {
    // It was removed once, asks for nothing, and does not know that it is a member again.
    send(replica, from, { kind: 'sealed', index: configurationStart, next: configuration }, 'now')
  }
  const upTo = logIndex(Math.min(message.upTo, decided))
  if (message.from < log.first && message.from <= message.upTo) {
    if (options.readsLog) replica.effects.push({ kind: 'read-log', to: from, from: message.from, upTo })
    else send(replica, from, { kind: 'no-longer-here', first: logIndex(log.first), decided }, 'now')
    return
  }
  sendDecided(replica, from, message.from, slice(log, message.from, upTo, options.maxBatchBytes))
}

/** What storage had of what was asked for. Where that is nothing, but should not be, the other side asks elsewhere. */
export function onLogRead(
  replica: Replica,
  to: NodeId,
  from: LogIndex,
  entries: readonly Entry[],
  first: LogIndex,
): void {
  const { decided } = replica
  if (entries.length > 0) sendDecided(replica, to, from, entries)
  else if (from < first) send(replica, to, { kind: 'no-longer-here', first, decided }, 'now')
}

function sendDecided(replica: Replica, to: NodeId, from: LogIndex, entries: readonly Entry[]): void {
  const { decided } = replica
  replica.migration.sentBytes += bytesOf(entries)
  const leader = isLeading(replica) ? replica.leadership!.ballot : (replica.followed ?? ZERO_BALLOT)
  send(replica, to, { kind: 'decided-entries', from, decided, leader, entries }, 'now')
}

export function onDecidedEntries(replica: Replica, from: NodeId, message: DecidedEntries): void {
  const { fetch, migration } = replica
  const asked = fetch.pending.get(from)
  if (message.entries.length > 0) {
    migration.receivedBytes.set(from, (migration.receivedBytes.get(from) ?? 0) + bytesOf(message.entries))
  }
  if (asked?.from === message.from) fetch.pending.delete(from)
  if (!mayLearn(replica)) return
  fetch.goal = Math.max(fetch.goal, message.decided)
  if (!votes(replica)) {
    replica.rejoinedAt ??= message.decided
    const newer = replica.followed === null || compareBallots(message.leader, replica.followed) > 0
    const current = message.leader.configuration >= replica.configuration.id
    if (message.leader.n > 0 && newer && current) replica.followed = message.leader
  }
  const last = message.entries.at(-1)
  const bound = replica.known + (WINDOW_SEGMENTS + 1) * replica.options.fetchSegmentEntries
  if (last !== undefined && last.index > replica.known && last.index <= bound) {
    keepForLater(fetch, message.from, message.entries)
  } else if (last === undefined && asked !== undefined && asked.upTo >= asked.from && message.decided < fetch.goal) {
    // It does not have what was asked for: leave it alone for a moment.
    fetch.avoided.set(from, replica.now + replica.options.resendMilliseconds)
  }
  pump(replica)
}

function keepForLater(fetch: Fetch, from: number, entries: readonly Entry[]): void {
  fetch.bufferedBytes += bytesOf(entries) - bytesOf(fetch.buffered.get(from) ?? [])
  fetch.buffered.set(from, entries)
}

/** Takes what joins the known part of the log. */
function drain(replica: Replica): void {
  const { buffered } = replica.fetch
  for (let moved = true; moved;) {
    moved = false
    for (const [from, entries] of buffered) {
      if (from > replica.known + 1) continue
      buffered.delete(from)
      replica.fetch.bufferedBytes -= bytesOf(entries)
      learn(replica, entries)
      moved = true
    }
  }
}

export function onNoLongerHere(replica: Replica, from: NodeId, message: NoLongerHere): void {
  const { fetch, options } = replica
  fetch.pending.delete(from)
  if (!mayLearn(replica) || message.first <= replica.known + 1) return
  fetch.goal = Math.max(fetch.goal, message.decided)
  fetch.avoided.set(from, replica.now + options.resendMilliseconds)
  // It is asked for again as long as it is needed.
  if (replica.now - fetch.askedCheckpointAt < options.electionTimeoutMilliseconds) return
  fetch.askedCheckpointAt = replica.now
  const index = logIndex(message.first - 1)
  // The leader has enough to do: it is asked last.
  const leader = replica.followed?.node
  const all = [...new Set([from, ...sources(replica)])]
  const order = [...all.filter((id) => id !== leader), ...all.filter((id) => id === leader)]
  replica.effects.push({ kind: 'need-checkpoint', index, from: order })
}

/**
 * Whether a checkpoint up to `index` may take the place of the log's beginning now. The shell asks before it
 * lets the checkpoint replace anything.
 */
export const acceptsCheckpoint = (replica: Replica, index: LogIndex, configuration: Configuration): boolean =>
  mayLearn(replica) && index > replica.known && (configuration.id >= replica.configuration.id || knowsLater(replica))

/** Only a node that joined late, or lost what it had, knows of a configuration that started after what it still lacks. */
const knowsLater = (replica: Replica): boolean => !votes(replica) || replica.doubtfulFrom !== null

/** Replaces the log's beginning; the caller has asked `acceptsCheckpoint` and sees to a newer configuration. */
export function installCheckpoint(
  replica: Replica,
  index: LogIndex,
  configuration: Configuration,
  start: LogIndex,
): void {
  replaceByCheckpoint(replica, index, configuration, start)
  replica.fetch.pending.clear()
}

/** A question that was not answered goes to somebody else. */
export function tickFetch(replica: Replica): void {
  const { fetch, now, options } = replica
  for (const [to, asked] of fetch.pending) {
    if (now - asked.at < 2 * options.resendMilliseconds) continue
    fetch.pending.delete(to)
    fetch.avoided.set(to, now + options.resendMilliseconds)
  }
  pump(replica)
}
