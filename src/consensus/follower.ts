/**
 * Sequence Paxos (Omni-Paxos, EuroSys 2023), the follower's side: promise, accept, decide. PURE.
 *
 * A follower that has taken the AcceptSync of a ballot holds a prefix of that leader's log and only appends
 * to it, until it promises a larger ballot. What it tells about its own log leaves after the sync that covers it.
 */
import { type Entry, type LogIndex, type NodeId, compareBallots, logIndex, sameBallot } from '../vocabulary.ts'
import { hint } from './catch-up.ts'
import { endDoubt, isForgetful } from './doubt.ts'
import { holdPrepare, isBound } from './leases.ts'
import { fits, lastIndex, slice } from './log.ts'
import type { AcceptDecide, AcceptSync, Beacon, CatchUp, Decide, Prepare, TakeOver } from './messages.ts'
import { mayTakeOver, stepDown, takeOver } from './leader.ts'
import { takesEntries, takesSync } from './room.ts'
import { appendEntries, hearDecided, promise, replaceSuffix, requestPrepare, send } from './changes.ts'
import { type Replica, peers } from './state.ts'

export function onPrepare(replica: Replica, from: NodeId, message: Prepare): void {
  // In doubt about its promises it makes none; it asks for Prepare again when it knows them.
  if (message.ballot.node !== from || isForgetful(replica)) return
  const order = compareBallots(message.ballot, replica.promise)
  if (order < 0) return refuse(replica, from, message.ballot)
  if (order === 0) {
    // Asked again: what was answered, or accepted, may have been lost.
    if (replica.phase === 'accept') return sayAccepted(replica)
    if (replica.phase !== 'recover' && replica.phase !== 'promised') return
    // A Promise may carry much, and of many that stood in line (a process was frozen, a link slow) the first answer does.
    // What comes may not be taken where there is no room, and is asked for no more than now and then.
    const { promisedAt, now, options, fetch, known } = replica
    const since = now - promisedAt
    if (replica.phase === 'promised' && since < options.resendMilliseconds / 2) return
    // This leader has said what to fetch first, and asks on: who has promised takes nothing of what was fetched.
    const isFetching = replica.phase === 'recover' && fetch.goal > known
    if (isFetching && since < 2 * options.electionTimeoutMilliseconds) return
    if (!takesEntries(replica) && since < options.electionTimeoutMilliseconds) return
  } else if (isBound(replica, from)) {
    return holdPrepare(replica, from, message)
  } else {
    stepDown(replica)
    promise(replica, message.ballot)
    replica.followed = null
  }
  replica.phase = 'promised'
  sendPromise(replica, from, message)
}

/** After every event: whether the lease is over for which a candidate was kept waiting. */
export function answerHeld(replica: Replica): void {
  const held = replica.heldPrepare
  if (held === null || isBound(replica, held.from)) return
  replica.heldPrepare = null
  onPrepare(replica, held.from, held.message)
}

/** A refusal reveals a promise; that it may not be durable yet harms nobody. */
function refuse(replica: Replica, to: NodeId, ballot: Prepare['ballot']): void {
  send(replica, to, { kind: 'not-accepted', ballot, promise: replica.promise }, 'now')
}

/**
 * After the sync: the promise, and all of the log that it speaks of, must outlive a crash.
 *
 * Of a log that is ahead it sends what the candidate lacks; of a long decided part nothing, the candidate
 * fetches that.
 */
function sendPromise(replica: Replica, to: NodeId, prepare: Prepare): void {
  const { log, acceptedBallot, decided } = replica
  replica.promisedAt = replica.now
  const accepted = lastIndex(log)
  const order = compareBallots(acceptedBallot, prepare.acceptedBallot)
  let base: number = accepted + 1
  if (order > 0) base = prepare.decided + 1
  else if (order === 0 && accepted > prepare.accepted) base = prepare.accepted + 1
  if (base <= decided && !fits(log, base, decided, replica.options.maxBatchBytes)) base = decided + 1
  const entries: Entry[] = slice(log, base, accepted, Infinity)
  send(
    replica,
    to,
    {
      kind: 'promise',
      ballot: replica.promise,
      acceptedBallot,
      decided,
      accepted,
      doubtfulFrom: replica.doubtfulFrom ?? logIndex(0),
      base: logIndex(base),
      entries,
    },
    'after-sync',
  )
}

/** Whether a message of the accept phase is of the ballot promised; refuses older ones, asks for Prepare of newer. */
function isCurrent(replica: Replica, from: NodeId, ballot: Prepare['ballot']): boolean {
  if (isForgetful(replica)) return false
  if (ballot.node !== from || replica.phase === 'lead') {
    if (compareBallots(ballot, replica.promise) < 0) refuse(replica, from, ballot)
    return false
  }
  const order = compareBallots(ballot, replica.promise)
  if (order < 0) refuse(replica, from, ballot)
  else if (order > 0) askForPrepare(replica, from)
  return order === 0
}

function askForPrepare(replica: Replica, from: NodeId): void {
  const since = replica.now - replica.lastPrepareRequest
  if (since >= replica.options.resendMilliseconds) requestPrepare(replica, [from])
}

export function onAcceptSync(replica: Replica, from: NodeId, message: AcceptSync): void {
  if (!isCurrent(replica, from, message.ballot)) return
  if (!takesSync(replica, message.entries)) return
  // Made for a promise of before: it may lack what was accepted since, and lost.
  const { doubtfulFrom } = replica
  if (doubtfulFrom !== null && message.doubtfulFrom !== doubtfulFrom) return askForPrepare(replica, from)
  if (sameBallot(replica.acceptedBallot, message.ballot)) {
    // In one ballot the log only grows: an AcceptSync that comes again (or after a restart) adds what is new.
    if (message.base > lastIndex(replica.log) + 1) return askForPrepare(replica, from)
    appendFresh(replica, message.entries)
  } else {
    if (message.base > lastIndex(replica.log) + 1) return askForPrepare(replica, from)
    replaceSuffix(replica, message.ballot, message.base, message.entries)
  }
  replica.phase = 'accept'
  endDoubt(replica)
  // All of it: what is decided in the leader's ballot is not known yet where that has just begun.
  replica.rejoinedAt ??= lastIndex(replica.log)
  follow(replica, message.ballot, message.decided)
}

const appendFresh = (replica: Replica, entries: readonly Entry[]): void =>
  appendEntries(
    replica,
    entries.filter((entry) => entry.index > lastIndex(replica.log)),
  )

/** Whether this replica holds a prefix of the log of `ballot`; asks for Prepare where it should. */
function isFollowing(replica: Replica, from: NodeId, ballot: Prepare['ballot']): boolean {
  if (!isCurrent(replica, from, ballot)) return false
  if (replica.phase === 'accept') return true
  askForPrepare(replica, from)
  return false
}

export function onAcceptDecide(replica: Replica, from: NodeId, message: AcceptDecide): void {
  if (!isFollowing(replica, from, message.ballot)) return
  const first = message.entries[0]
  if (first !== undefined && first.index > lastIndex(replica.log) + 1) askToResend(replica, from)
  else if (takesEntries(replica)) appendFresh(replica, message.entries)
  follow(replica, message.ballot, message.decided)
}

export function onDecide(replica: Replica, from: NodeId, message: Decide): void {
  if (isFollowing(replica, from, message.ballot)) follow(replica, message.ballot, message.decided)
}

export function onBeacon(replica: Replica, from: NodeId, message: Beacon): void {
  if (!isFollowing(replica, from, message.ballot)) return
  follow(replica, message.ballot, message.decided)
  if (message.end > lastIndex(replica.log)) askToResend(replica, from)
  sayAccepted(replica)
}

function follow(replica: Replica, ballot: Prepare['ballot'], decided: LogIndex): void {
  replica.followed = ballot
  hearDecided(replica, decided)
}

/** Once for a gap: the messages behind the lost one show it again and again. */
function askToResend(replica: Replica, to: NodeId): void {
  if (!takesEntries(replica)) return
  const from = lastIndex(replica.log) + 1
  const { lastResend, now, options } = replica
  if (lastResend.from === from && now - lastResend.at < options.resendMilliseconds) return
  replica.lastResend = { from, at: now }
  send(replica, to, { kind: 'resend', ballot: replica.promise, from: logIndex(from) }, 'now')
}

/** Says what storage has confirmed in the ballot followed, so it waits for nothing. */
export function sayAccepted(replica: Replica): void {
  if (replica.phase !== 'accept' || !sameBallot(replica.durableBallot, replica.promise)) return
  const message = { kind: 'accepted', ballot: replica.promise, index: replica.durable } as const
  send(replica, replica.promise.node, message, 'now')
}

/** The leader cannot bring us up in one message: fetch, then ask it for Prepare. */
export function onCatchUp(replica: Replica, from: NodeId, message: CatchUp): void {
  if (!isCurrent(replica, from, message.ballot)) return
  replica.phase = 'recover'
  replica.lastPrepareRequest = replica.now
  hint(replica, from, message.decided)
}

/** Handed leadership over: take it at once. Only from the leader that is followed, or for a configuration to come. */
export function onTakeOver(replica: Replica, from: NodeId, message: TakeOver): void {
  const ballot = message.ballot
  const handed = ballot.n === 0 ? replica.promise.configuration < ballot.configuration : ballot.node === from
  if (!handed || replica.phase === 'lead') return
  if (ballot.n > 0 && !(sameBallot(ballot, replica.promise) && replica.phase === 'accept')) return
  if (mayTakeOver(replica)) takeOver(replica)
}

/** Repeats the call for Prepare while nothing is known of the leader. */
export function tickFollower(replica: Replica): void {
  const { fetch, known, now, options } = replica
  if (replica.phase !== 'recover') return
  const patience = fetch.goal > known ? options.electionTimeoutMilliseconds * 2 : options.resendMilliseconds
  if (now - replica.lastPrepareRequest >= patience) requestPrepare(replica, peers(replica))
}
