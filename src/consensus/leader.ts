/**
 * Sequence Paxos (Omni-Paxos, EuroSys 2023), the leader's side: prepare, adopt, replicate, decide, hand over. PURE.
 *
 * - A ballot is used once: it is promised durably by its owner before anyone hears of it, and every takeover
 *   takes a larger one than was ever promised here. So no process leads under a ballot from before its start.
 * - Entries leave before the leader's own sync; the leader counts itself only when storage has confirmed.
 */
import { invariant } from '../invariant.ts'
import { type Ballot, type Entry, type NodeId, compareBallots, logIndex, sameBallot } from '../vocabulary.ts'
import { hint } from './catch-up.ts'
import { createLease, isBound, releaseLease } from './leases.ts'
import { bytesOf, entryBytes, entryAt, fits, lastIndex, slice } from './log.ts'
import type { Accepted, NotAccepted, Promise_, Resend } from './messages.ts'
import { acceptQuorum, intactQuorum, isVoter, prepareQuorum, reachedBy } from './quorum.ts'
import { confirmReads, failReads, restartReads } from './reads.ts'
import { mayLeadWithoutRoom, mostUndecidedBytes } from './room.ts'
import { advanceDecided, appendEntries, promise, rejoinAnew, replaceSuffix, send } from './changes.ts'
import {
  type Leadership,
  type Progress,
  type Replica,
  isInSight,
  isLeading,
  peers,
  pendingConfiguration,
  votes,
} from './state.ts'

/** The log of a node in doubt may lack what is decided (doubt.ts), and one that has granted a lease waits for its end. */
export const mayTakeOver = (replica: Replica): boolean =>
  replica.doubtfulFrom === null && mayLeadWithoutRoom(replica) && !isBound(replica, replica.self)

/** Becomes a candidate at once, with a ballot above everything seen in this configuration. `agreed`: see Leadership. */
export function takeOver(replica: Replica, agreed = false): void {
  invariant(votes(replica), 'only a voter takes over')
  const { election, configuration, options, self } = replica
  const promised = replica.promise.configuration === configuration.id ? replica.promise.n : 0
  const n = Math.max(election.leader.n, election.own.n, promised) + 1
  const ballot: Ballot = { configuration: configuration.id, n, priority: options.priority, node: self }
  election.own = ballot
  election.leader = ballot
  election.happy = true
  promise(replica, ballot)
  replica.phase = 'lead'
  replica.followed = null
  replica.leadership = {
    ballot,
    phase: 'prepare',
    since: replica.now,
    agreed,
    promises: new Map(),
    progress: new Map(peers(replica).map((id) => [id, unknownProgress()])),
    adopted: { ballot: replica.acceptedBallot, index: lastIndex(replica.log) },
    adoptedEnd: logIndex(0),
    decided: logIndex(0),
    undecidedBytes: 0,
    lease: createLease(),
    transfer: null,
    reconfiguration: null,
    reports: new Map(),
  }
  for (const to of peers(replica)) sendPrepare(replica, to)
}

const unknownProgress = (): Progress => ({
  state: 'unknown',
  acked: 0,
  acceptedAt: -Infinity,
  next: 0,
  inFlightBytes: 0,
  decidedSent: 0,
  sentAt: 0,
})

/** After the sync: a ballot that its owner could forget could be led twice. */
export function sendPrepare(replica: Replica, to: NodeId): void {
  const leadership = replica.leadership!
  const progress = leadership.progress.get(to)
  if (progress === undefined) return
  progress.state = 'unknown'
  progress.sentAt = replica.now
  const { ballot } = leadership
  const accepted = lastIndex(replica.log)
  const { decided, acceptedBallot } = replica
  send(replica, to, { kind: 'prepare', ballot, decided, acceptedBallot, accepted }, 'after-sync')
}

/** Steps back to being nobody; the caller says what comes next. */
export function stepDown(replica: Replica): void {
  if (replica.leadership === null) return
  replica.leadership = null
  rejoinAnew(replica)
  replica.phase = 'recover'
  failReads(replica)
}

/** A voter has lost track (it was restarted, or caught up): begin with it anew. */
export function onPrepareRequest(replica: Replica, from: NodeId): void {
  const progress = replica.leadership?.progress.get(from)
  if (progress === undefined) return
  // What it had accepted may be lost to rot; it will say again.
  progress.acked = 0
  sendPrepare(replica, from)
}

export function onPromise(replica: Replica, from: NodeId, message: Promise_): void {
  const leadership = replica.leadership
  if (leadership === null || !sameBallot(message.ballot, leadership.ballot)) return
  if (!leadership.progress.has(from)) return
  leadership.promises.set(from, message)
  if (leadership.phase === 'prepare') tryAdopt(replica)
  else synchronize(replica, from, message)
}

/** Whether the promises suffice: of those without a doubt, each accept quorum must have one (doubt.ts). */
function isEnough({ configuration }: Replica, leadership: Leadership): boolean {
  const intact = [...leadership.promises.values()].filter((one) => one.doubtfulFrom === 0).length
  return leadership.promises.size + 1 >= prepareQuorum(configuration) && intact + 1 >= intactQuorum(configuration)
}

/** With a prepare quorum, itself included once its promise is durable: takes the most advanced log and leads. */
export function tryAdopt(replica: Replica): void {
  const leadership = replica.leadership
  if (leadership?.phase !== 'prepare' || !sameBallot(replica.durablePromise, leadership.ballot)) return
  if (!isEnough(replica, leadership)) return
  const best = mostAdvanced(replica, leadership)
  if (best !== null) {
    const [from, message] = best
    // Own entries are good up to what is decided, or wholly where they were accepted in the same ballot.
    const joins = sameBallot(replica.acceptedBallot, message.acceptedBallot) ? lastIndex(replica.log) : replica.known
    if (message.base > joins + 1) return hint(replica, from, message.decided)
  }
  adopt(replica, leadership, best?.[1] ?? null)
}

/**
 * The promise of the largest (accepted ballot, last index), where it is ahead of our own log. Doubtful ones do not
 * count: rot may have left the ballot and taken entries that were accepted in it, or before it. Whatever was decided
 * was accepted by an intact one of those that `isEnough` wants, in its largest ballot or before.
 */
function mostAdvanced(replica: Replica, leadership: Leadership): [NodeId, Promise_] | null {
  let best: [NodeId, Promise_] | null = null
  let ballot = replica.acceptedBallot
  let index = lastIndex(replica.log)
  for (const [from, message] of leadership.promises) {
    if (message.doubtfulFrom > 0) continue
    const order = compareBallots(message.acceptedBallot, ballot) || message.accepted - index
    if (order <= 0) continue
    best = [from, message]
    ballot = message.acceptedBallot
    index = message.accepted
  }
  return best
}

function adopt(replica: Replica, leadership: Leadership, best: Promise_ | null): void {
  leadership.adopted = best
    ? { ballot: best.acceptedBallot, index: best.accepted }
    : { ballot: replica.acceptedBallot, index: lastIndex(replica.log) }
  const end = logIndex(lastIndex(replica.log) + 1)
  if (best) replaceSuffix(replica, leadership.ballot, best.base, best.entries)
  else replaceSuffix(replica, leadership.ballot, end, [])
  leadership.phase = 'accept'
  leadership.adoptedEnd = lastIndex(replica.log)
  for (let index = replica.known + 1; index <= leadership.adoptedEnd; index++) {
    leadership.undecidedBytes += entryBytes(entryAt(replica.log, index)!)
  }
  // The first entry of a configuration shows that a quorum of it holds the whole prefix.
  const empty = lastIndex(replica.log) === replica.configurationStart
  if (empty) appendAsLeader(replica, { kind: 'commands', index: logIndex(end), payload: new Uint8Array(0) })
  replica.rejoinedAt ??= leadership.adoptedEnd
  replica.effects.push({ kind: 'became-leader', ballot: leadership.ballot })
  for (const [from, message] of leadership.promises) synchronize(replica, from, message)
  restartReads(replica)
}

/**
 * Makes the log of one that has promised a copy of ours. It may leave before our own sync: the ballot is
 * durable, and nothing of it counts for us before storage confirms.
 * The message must reach to `adoptedEnd`: what it replaces may be a copy of something chosen below that. For one in
 * doubt, it must reach to the end of our log: it may have accepted, and lost, any of it (doubt.ts).
 */
function synchronize(replica: Replica, to: NodeId, from: Promise_): void {
  const leadership = replica.leadership!
  const progress = leadership.progress.get(to)!
  const { ballot, adopted, adoptedEnd, decided } = leadership
  const { doubtfulFrom } = from
  const end = doubtfulFrom > 0 ? lastIndex(replica.log) : adoptedEnd
  const valid = sameBallot(from.acceptedBallot, ballot)
    ? from.accepted
    : sameBallot(from.acceptedBallot, adopted.ballot)
      ? Math.max(from.decided, Math.min(from.accepted, adopted.index))
      : from.decided
  const base = logIndex(valid + 1)
  if (base < replica.log.first || !fits(replica.log, base, replica.known, replica.options.maxBatchBytes)) {
    return sendBehind(replica, to)
  }
  const most = slice(replica.log, base, lastIndex(replica.log), replica.options.maxBatchBytes)
  const reaches = base + most.length - 1 >= end
  const entries = reaches ? most : slice(replica.log, base, end, Infinity)
  progress.state = 'syncing'
  progress.next = base + entries.length
  progress.inFlightBytes = bytesOf(entries)
  progress.decidedSent = decided
  // Only what was accepted in this very ballot counts already.
  progress.acked = sameBallot(from.acceptedBallot, ballot) ? valid : 0
  progress.sentAt = replica.now
  const answersDoubt = doubtfulFrom > 0 ? { doubtfulFrom } : {}
  send(replica, to, { kind: 'accept-sync', ballot, decided, base, entries, ...answersDoubt }, 'now')
}

/** What it lacks is not in memory here, or too much: it fetches what is decided (and durable) first. */
function sendBehind(replica: Replica, to: NodeId): void {
  const { ballot, progress } = replica.leadership!
  Object.assign(progress.get(to)!, { state: 'unknown', sentAt: replica.now })
  send(replica, to, { kind: 'catch-up', ballot, decided: replica.decided }, 'now')
}

/** Appends an entry to the leader's log and sends it on. */
export function appendAsLeader(replica: Replica, entry: Entry): void {
  const leadership = replica.leadership!
  appendEntries(replica, [entry])
  leadership.undecidedBytes += entryBytes(entry)
  for (const to of leadership.progress.keys()) replicate(replica, to)
}

/**
 * Sends a follower what it has not been sent, as far as the window allows, and the decided index. It leaves
 * before our own sync: see the file's head. What is decided is durable on a quorum already.
 */
function replicate(replica: Replica, to: NodeId): void {
  const { ballot, progress: all, decided } = replica.leadership!
  const progress = all.get(to)
  if (progress?.state !== 'replicating') return
  const { maxBatchBytes, maxInFlightBytes } = replica.options
  const end = lastIndex(replica.log)
  while (progress.next <= end && progress.inFlightBytes < maxInFlightBytes) {
    const entries = slice(replica.log, progress.next, end, maxBatchBytes)
    if (entries.length === 0) return sendBehind(replica, to)
    send(replica, to, { kind: 'accept-decide', ballot, decided, entries }, 'now')
    progress.next += entries.length
    progress.inFlightBytes += bytesOf(entries)
    progress.decidedSent = decided
  }
  if (progress.decidedSent < decided) {
    send(replica, to, { kind: 'decide', ballot, decided }, 'now')
    progress.decidedSent = decided
  }
}

export function onAccepted(replica: Replica, from: NodeId, message: Accepted): void {
  const leadership = replica.leadership
  if (leadership?.phase !== 'accept' || !sameBallot(message.ballot, leadership.ballot)) return
  const progress = leadership.progress.get(from)
  if (progress === undefined || message.index > lastIndex(replica.log)) return
  progress.acceptedAt = replica.now
  // `unknown` too: the sender has accepted in this ballot, so it holds a prefix of this log, whatever we sent.
  if (progress.state === 'unknown' && message.index + 1 < replica.log.first) return sendBehind(replica, from)
  if (progress.state === 'unknown') progress.next = message.index + 1
  progress.state = 'replicating'
  if (message.index > progress.acked) {
    progress.acked = message.index
    progress.next = Math.max(progress.next, message.index + 1)
    progress.inFlightBytes = bytesBetween(replica, progress.acked + 1, progress.next - 1)
  }
  tally(replica)
  replicate(replica, from)
}

function bytesBetween(replica: Replica, from: number, to: number): number {
  let bytes = 0
  for (let index = from; index <= to; index++) {
    const entry = entryAt(replica.log, index)
    if (entry) bytes += entryBytes(entry)
  }
  return bytes
}

/**
 * Decides what an accept quorum has accepted in this ballot; the leader counts itself as far as it is durable.
 *
 * Nothing else that is said to be decided goes to followers as an index, and nothing that those who promised say is: it
 * may have been decided in a larger ballot, of which this leader has not heard, with other entries than those that its
 * log has there, or a follower's, which counts as the same because it was accepted in the same ballot.
 */
export function tally(replica: Replica): void {
  const leadership = replica.leadership
  if (leadership?.phase !== 'accept') return
  const own = sameBallot(replica.durableBallot, leadership.ballot) ? replica.durable : 0
  const reached = [own, ...[...leadership.progress.values()].map((one) => one.acked)]
  const decided = reachedBy(reached, acceptQuorum(replica.configuration))
  if (decided > leadership.decided) {
    leadership.decided = logIndex(decided)
    leadership.undecidedBytes -= bytesBetween(replica, replica.known + 1, decided)
    replica.known = logIndex(Math.max(replica.known, decided))
    const ended = pendingConfiguration(replica) !== null && decided === lastIndex(replica.log)
    for (const [to, { state }] of leadership.progress) {
      // No entry comes after a stop-sign that could carry the news, and everybody waits for it.
      if (ended && state === 'replicating') sendBeacon(replica, to)
      else replicate(replica, to)
    }
  }
  advanceDecided(replica)
  confirmReads(replica)
}

/** Whether a voter has shown since then that it follows: it is in touch, both ways. */
export const hasAcceptedSince = (replica: Replica, id: NodeId, since: number): boolean =>
  (replica.leadership?.progress.get(id)?.acceptedAt ?? -Infinity) > since

export function onResend(replica: Replica, from: NodeId, message: Resend): void {
  const leadership = replica.leadership
  if (leadership?.phase !== 'accept' || !sameBallot(message.ballot, leadership.ballot)) return
  const progress = leadership.progress.get(from)
  if (progress?.state !== 'replicating' || message.from <= progress.acked) return
  progress.next = Math.min(progress.next, message.from)
  progress.inFlightBytes = bytesBetween(replica, progress.acked + 1, progress.next - 1)
  replicate(replica, from)
}

/** It follows somebody else: nothing more is sent to it. Stepping down is the election's matter. */
export function onNotAccepted(replica: Replica, from: NodeId, message: NotAccepted): void {
  const progress = replica.leadership?.progress.get(from)
  if (progress === undefined || !sameBallot(message.ballot, replica.leadership!.ballot)) return
  progress.state = 'unknown'
  progress.sentAt = replica.now
}

/** Repeats what may have been lost, and shows followers that the leader is there. */
export function tickLeader(replica: Replica): void {
  const leadership = replica.leadership
  if (leadership === null) return
  for (const [to, progress] of leadership.progress) {
    if (replica.now - progress.sentAt < replica.options.resendMilliseconds) continue
    if (progress.state === 'replicating') sendBeacon(replica, to)
    else if (leadership.phase === 'accept' || !leadership.promises.has(to)) sendPrepare(replica, to)
  }
  tickTransfer(replica)
}

/** Depends on nothing of ours that is not durable. */
export function sendBeacon(replica: Replica, to: NodeId): void {
  const { ballot, progress: all, decided } = replica.leadership!
  const progress = all.get(to)!
  progress.sentAt = replica.now
  progress.decidedSent = decided
  const end = logIndex(progress.next - 1)
  send(replica, to, { kind: 'beacon', ballot, decided, end }, 'now')
}

// ---- transfer -------------------------------------------------------------------------------------------------

/** Whether so many are in sight that one of them could be elected. A leader needs fewer where few accept (quorum.ts). */
const canElect = (replica: Replica): boolean =>
  replica.configuration.voters.filter(({ id }) => isInSight(replica, id)).length >= prepareQuorum(replica.configuration)

/**
 * Holds proposals back and hands over to `to` as soon as it has everything. Not a voter, not there or not to be
 * elected, or this replica does not lead: nothing.
 */
export function onTransfer(replica: Replica, to: NodeId): void {
  const leadership = replica.leadership
  if (leadership?.phase !== 'accept' || to === replica.self || !isVoter(replica.configuration, to)) return
  if (replica.unreachable.has(to) || !canElect(replica)) return
  if (leadership.transfer?.to === to) return
  leadership.transfer = { to, since: replica.now, toldAt: -Infinity }
  tickTransfer(replica)
}

/** A target that does not come, or could not lead, keeps nobody waiting: this leader goes on after two election timeouts. */
export function tickTransfer(replica: Replica): void {
  const leadership = replica.leadership
  const transfer = leadership?.transfer
  if (!leadership || !transfer) return
  const { electionTimeoutMilliseconds, resendMilliseconds } = replica.options
  if (replica.now - transfer.since > 2 * electionTimeoutMilliseconds || !canElect(replica)) {
    leadership.transfer = null
    return
  }
  const progress = leadership.progress.get(transfer.to)
  if (progress?.state !== 'replicating' || progress.acked < lastIndex(replica.log)) return
  if (replica.now - transfer.toldAt < resendMilliseconds || pendingConfiguration(replica)) return
  transfer.toldAt = replica.now
  releaseLease(replica)
  // Nothing depends on our disk: the target prepares like every candidate.
  send(replica, transfer.to, { kind: 'take-over', ballot: leadership.ballot }, 'now')
}

/** The target is gone: proposals are taken again at once. */
export function endTransfer(replica: Replica, to: NodeId): void {
  if (replica.leadership?.transfer?.to === to) replica.leadership.transfer = null
}

/** Only for a target that is near the end: one that is far behind would hold everybody up, and catches up first. */
function holdsBack(replica: Replica): boolean {
  const { transfer, progress } = replica.leadership!
  const target = transfer && progress.get(transfer.to)
  if (target?.state !== 'replicating') return false
  return lastIndex(replica.log) - target.acked <= replica.options.reconfigurationLagEntries
}

export const acceptsProposals = (replica: Replica): boolean =>
  isLeading(replica) &&
  !holdsBack(replica) &&
  pendingConfiguration(replica) === null &&
  replica.leadership!.undecidedBytes < mostUndecidedBytes(replica)
