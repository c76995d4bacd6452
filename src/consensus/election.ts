/**
 * Ballot Leader Election (Omni-Paxos, EuroSys 2023), the happy variant. PURE.
 *
 * Each election timeout a voter asks all others for a heartbeat and judges the answers of the round before.
 * It is happy when it sees its leader in contact with a quorum. Only when it and everyone who answers are
 * unhappy, and together they are a quorum, does it take over. So whoever leads is connected to a quorum,
 * and nobody disturbs a leader that is, whatever part of the network is down.
 */
import {
  type Ballot,
  type ConfigurationId,
  type NodeId,
  ZERO_BALLOT,
  compareBallots,
  sameBallot,
} from '../vocabulary.ts'
import { hasAcceptedSince, mayTakeOver, takeOver } from './leader.ts'
import { isBound } from './leases.ts'
import type { HeartbeatReply, HeartbeatRequest } from './messages.ts'
import { acceptQuorum, isVoter, prepareQuorum } from './quorum.ts'
import { hearRoom } from './room.ts'
import { send } from './changes.ts'
import { type Election, type Replica, isLeading, peers, votes } from './state.ts'

const QUICK_ROUND_LEAST_MILLISECONDS = 20

/** Long enough for an answer of a live leader nearby; every quick round in vain makes the next one twice as long. */
const quickRound = (timeout: number): number => Math.min(timeout, Math.max(QUICK_ROUND_LEAST_MILLISECONDS, timeout / 6))

/**
 * `promise`: what was promised in this configuration; anything of an older one does not matter here. `agreed`: who is
 * to lead it, 0 where this is not known. `happy`: it has a round to show itself; otherwise this voter hurries.
 */
export function createElection(
  self: NodeId,
  configuration: ConfigurationId,
  promise: Ballot,
  now: number,
  { agreed, happy }: Pick<Election, 'agreed' | 'happy'>,
): Election {
  return {
    own: { ...ZERO_BALLOT, configuration, node: self },
    leader: promise.configuration === configuration ? promise : { ...ZERO_BALLOT, configuration },
    agreed,
    happy,
    round: 0,
    startedAt: now,
    roundMilliseconds: 0,
    judged: false,
    hurriedAt: -Infinity,
    excused: false,
    suspect: null,
    lastTick: now,
    replies: new Map(),
    outbidRounds: 0,
    led: null,
  }
}

export function tickElection(replica: Replica): void {
  const election = replica.election
  const timeout = replica.options.electionTimeoutMilliseconds
  const gap = replica.now - election.lastTick
  election.lastTick = replica.now
  if (!votes(replica)) return
  const age = replica.now - election.startedAt
  if (election.round === 0 && replica.configuration.voters.length === 1) {
    startRound(replica)
    judge(replica)
  } else if (election.round === 0 || gap > timeout) {
    // After a pause the answers that should be there may still wait to be read: judge nothing by their absence.
    startRound(replica)
  } else if (age >= election.roundMilliseconds) {
    // The same for a quick round that ended in a short pause: the next tick comes when they were read.
    if (!election.judged && age < timeout && gap >= election.roundMilliseconds) return
    if (!election.judged) judge(replica)
    startRound(replica)
  }
}

/** Asks depend on nothing durable, and neither do the answers: election is a matter of liveness only. */
function startRound(replica: Replica): void {
  const election = replica.election
  const timeout = replica.options.electionTimeoutMilliseconds
  election.round++
  election.startedAt = replica.now
  election.judged = false
  election.replies = new Map()
  const quick = quickRound(timeout)
  election.roundMilliseconds = election.happy ? timeout : clamp(2 * election.roundMilliseconds, quick, timeout)
  // Who would take over but has granted a lease judges again as soon as it is over.
  if (!election.happy && isBound(replica, replica.self)) {
    election.roundMilliseconds = clamp(replica.grant.until - replica.now, 1, election.roundMilliseconds)
  }
  const configuration = replica.configuration.id
  for (const to of peers(replica)) {
    send(replica, to, { kind: 'heartbeat-request', configuration, round: election.round }, 'now')
  }
}

const clamp = (value: number, least: number, most: number): number => Math.min(Math.max(value, least), most)

/**
 * The connection to a peer is closed. Where that peer is the leader, a round begins at once and is a quick one: the
 * others say whether they see it. One lost connection deposes nobody, since they do; a leader that died leaves
 * nobody who does, and whoever notices last takes over. Begins at most one round in the time of a quick one.
 */
export function onDisconnected(replica: Replica, peer: NodeId): void {
  const { election } = replica
  replica.unreachable.add(peer)
  if (!votes(replica) || election.round === 0) return
  if (expectedLeader(replica) !== peer) return judgeEarly(replica)
  if (election.happy) election.suspect = peer
  election.happy = false
  election.replies.delete(peer)
  if (replica.now - election.hurriedAt < quickRound(replica.options.electionTimeoutMilliseconds)) return
  election.hurriedAt = replica.now
  election.roundMilliseconds = 0
  startRound(replica)
}

/** A message came from a peer that is there after all. If it was suspected to be gone, all is as before. */
export function onSight(replica: Replica, peer: NodeId): void {
  const { election } = replica
  replica.unreachable.delete(peer)
  if (election.suspect !== peer) return
  election.suspect = null
  election.happy = true
  // What was asked of it is lost: the next tick asks anew.
  if (election.startedAt !== election.hurriedAt) return
  election.judged = true
  election.roundMilliseconds = 0
}

/** Whom this voter looks to: the largest ballot it has promised or heard of, or who was agreed on before any; 0: nobody. */
function expectedLeader(replica: Replica): NodeId {
  const { leader, agreed } = replica.election
  const promised = replica.promise.configuration === leader.configuration
  const best = promised && compareBallots(replica.promise, leader) > 0 ? replica.promise : leader
  return best.n > 0 ? best.node : agreed
}

/** Who has promised has also entered the configuration, and answers: contact is judged by a round from here on. */
export function settleElection(replica: Replica): void {
  const { election, leadership } = replica
  if (!isLeading(replica) || (election.led !== null && sameBallot(election.led, leadership!.ballot))) return
  election.led = leadership!.ballot
  startRound(replica)
}

export function onHeartbeatRequest(replica: Replica, from: NodeId, message: HeartbeatRequest): void {
  const { own, leader } = replica.election
  const configuration = replica.configuration.id
  const happy = replica.election.happy || isCourted(replica)
  const full = replica.room === 'enough' ? {} : { full: true }
  send(
    replica,
    from,
    { kind: 'heartbeat-reply', configuration, round: message.round, ballot: own, leader, happy, ...full },
    'now',
  )
}

export function onHeartbeatReply(replica: Replica, from: NodeId, message: HeartbeatReply): void {
  if (message.round !== replica.election.round || !isVoter(replica.configuration, from)) return
  hearRoom(replica, from, message.full ?? false)
  replica.election.replies.set(from, message)
  judgeEarly(replica)
}

/** An unhappy voter waits for nobody who is not there: with all answers within reach it judges at once. */
function judgeEarly(replica: Replica): void {
  const election = replica.election
  if (election.happy || election.replies.size === 0) return
  // After a pause the answers are those of another time: the next tick asks anew.
  if (replica.now - election.lastTick > replica.options.electionTimeoutMilliseconds) return
  if (!peers(replica).every((id) => election.replies.has(id) || replica.unreachable.has(id))) return
  election.judged = true
  judge(replica)
}

/** A promise made since the last round is news of a leader: it has a round to show itself. */
function isCourted(replica: Replica): boolean {
  const { promise, election, phase } = replica
  return phase !== 'lead' && compareBallots(promise, election.leader) > 0 && !replica.unreachable.has(promise.node)
}

function judge(replica: Replica): void {
  const election = replica.election
  const replies = [...election.replies.values()]
  const courted = isCourted(replica)
  election.suspect = null
  if (compareBallots(replica.promise, election.leader) > 0) election.leader = replica.promise
  for (const reply of replies) {
    if (reply.ballot.n > 0 && compareBallots(reply.ballot, election.leader) > 0) election.leader = reply.ballot
  }
  election.happy = courted || isHappy(replica, replies)
  const quorum = replies.length + 1 >= prepareQuorum(replica.configuration)
  if (!election.happy) {
    if (!isLeading(replica)) replica.followed = null
    if (quorum && replies.every((reply) => !reply.happy) && mayTakeOver(replica)) takeOver(replica)
  } else if (isLeading(replica) && quorum && isOutbid(replica, replies) && mayTakeOver(replica)) {
    // Where few accept, it may lead with fewer than would elect it again: then it goes on without that voter.
    takeOver(replica)
  }
}

function isHappy(replica: Replica, replies: readonly HeartbeatReply[]): boolean {
  const { own, leader } = replica.election
  if (own.n === 0 || !sameBallot(leader, own)) {
    return replies.some((reply) => reply.happy && sameBallot(reply.ballot, leader)) || isExcused(replica, leader.node)
  }
  if (replies.some((reply) => reply.happy && compareBallots(reply.leader, own) > 0)) return true
  const leadership = replica.leadership
  // It has left, for news of the next configuration, and what it left for does not come.
  if (leadership === null) return false
  if (leadership.phase === 'prepare') {
    const { electionTimeoutMilliseconds: timeout } = replica.options
    const preparing = replica.now - leadership.since
    if (leadership.agreed && preparing <= 3 * timeout) return true
    // One who has been preparing for long (it fetches a checkpoint, say) lets others try.
    if (preparing > 5 * timeout) return false
  }
  const quorum = isLeading(replica) ? acceptQuorum(replica.configuration) : prepareQuorum(replica.configuration)
  const inTouch = peers(replica).filter((id) => {
    const reply = replica.election.replies.get(id)
    if (reply) return compareBallots(reply.leader, own) <= 0
    return hasAcceptedSince(replica, id, replica.election.startedAt) || isMoving(replica, id)
  })
  return inTouch.length + 1 >= quorum
}

/**
 * What was asked, or the answer, stands in line behind a large message. That it moves is a sign of life as good as an
 * answer; a link that is dead, in one direction too, moves nothing.
 */
const isMoving = ({ election, lastMoved }: Replica, peer: NodeId): boolean =>
  (lastMoved.get(peer) ?? -Infinity) > election.startedAt

/** An answer may be lost. Once, it is enough to have heard of the leader since it was asked. */
function isExcused(replica: Replica, leader: NodeId): boolean {
  const { election, lastHeard, unreachable } = replica
  const wasExcused = election.excused
  const isMissing = election.happy && !election.replies.has(leader) && !unreachable.has(leader)
  if (isMissing && isMoving(replica, leader)) return true
  election.excused = !wasExcused && isMissing && (lastHeard.get(leader) ?? -Infinity) > election.startedAt
  return election.excused
}

/**
 * A voter that has promised more to a candidate who is gone cannot follow this leader, and nobody is unhappy
 * enough to take over. The leader does it itself, with a ballot above that promise.
 */
function isOutbid(replica: Replica, replies: readonly HeartbeatReply[]): boolean {
  const election = replica.election
  const above = replies.filter((reply) => compareBallots(reply.leader, election.own) > 0)
  election.outbidRounds = above.length > 0 && above.every((reply) => !reply.happy) ? election.outbidRounds + 1 : 0
  if (election.outbidRounds < 2) return false
  election.outbidRounds = 0
  for (const reply of above) if (compareBallots(reply.leader, election.leader) > 0) election.leader = reply.leader
  return true
}
