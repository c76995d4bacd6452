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
import { takeOver } from './leader.ts'
import type { HeartbeatReply, HeartbeatRequest } from './messages.ts'
import { acceptQuorum, isVoter, prepareQuorum } from './quorum.ts'
import { type Replica, isLeading, peers, send, votes } from './state.ts'

export interface Election {
  /** This node's own ballot; n = 0 until it takes over in this process. */
  own: Ballot
  /** The largest elected ballot it knows of in this configuration. */
  leader: Ballot
  happy: boolean
  round: number
  startedAt: number
  lastTick: number
  replies: Map<NodeId, HeartbeatReply>
  /** Rounds in a row in which a voter could not follow this leader because it has promised more to somebody. */
  outbidRounds: number
}

/** `promise`: what was promised in this configuration; anything of an older one does not matter here. */
export function createElection(self: NodeId, configuration: ConfigurationId, promise: Ballot, now: number): Election {
  return {
    own: { ...ZERO_BALLOT, configuration, node: self },
    leader: promise.configuration === configuration ? promise : { ...ZERO_BALLOT, configuration },
    happy: false,
    round: 0,
    startedAt: now,
    lastTick: now,
    replies: new Map(),
    outbidRounds: 0,
  }
}

export function tickElection(replica: Replica): void {
  const election = replica.election
  const timeout = replica.options.electionTimeoutMilliseconds
  const paused = replica.now - election.lastTick > timeout
  election.lastTick = replica.now
  if (!votes(replica)) return
  if (election.round === 0 && replica.configuration.voters.length === 1) {
    startRound(replica)
    judge(replica)
  } else if (election.round === 0 || paused) {
    // After a pause the answers that should be there may still wait to be read: judge nothing by their absence.
    startRound(replica)
  } else if (replica.now - election.startedAt >= timeout) {
    judge(replica)
    startRound(replica)
  }
}

/** Asks depend on nothing durable, and neither do the answers: election is a matter of liveness only. */
function startRound(replica: Replica): void {
  const election = replica.election
  election.round++
  election.startedAt = replica.now
  election.replies = new Map()
  const configuration = replica.configuration.id
  for (const to of peers(replica)) {
    send(replica, to, { kind: 'heartbeat-request', configuration, round: election.round }, 'now')
  }
}

export function onHeartbeatRequest(replica: Replica, from: NodeId, message: HeartbeatRequest): void {
  const { own, leader, happy } = replica.election
  const configuration = replica.configuration.id
  send(
    replica,
    from,
    { kind: 'heartbeat-reply', configuration, round: message.round, ballot: own, leader, happy },
    'now',
  )
}

export function onHeartbeatReply(replica: Replica, from: NodeId, message: HeartbeatReply): void {
  if (message.round !== replica.election.round || !isVoter(replica.configuration, from)) return
  replica.election.replies.set(from, message)
}

function judge(replica: Replica): void {
  const election = replica.election
  const replies = [...election.replies.values()]
  // A promise made since the last round is news of a leader: give it a round to show itself.
  const courted = replica.phase !== 'lead' && compareBallots(replica.promise, election.leader) > 0
  if (courted) election.leader = replica.promise
  for (const reply of replies) {
    if (reply.ballot.n > 0 && compareBallots(reply.ballot, election.leader) > 0) election.leader = reply.ballot
  }
  election.happy = courted || isHappy(replica, replies)
  const quorum = replies.length + 1 >= prepareQuorum(replica.configuration)
  if (!election.happy) {
    if (!isLeading(replica)) replica.followed = null
    // A node in doubt may have forgotten a ballot of its own: it waits for another to lead.
    if (quorum && replies.every((reply) => !reply.happy) && replica.doubtfulFrom === null) takeOver(replica)
  } else if (isLeading(replica) && isOutbid(replica, replies)) {
    takeOver(replica)
  }
}

function isHappy(replica: Replica, replies: readonly HeartbeatReply[]): boolean {
  const { own, leader } = replica.election
  if (own.n === 0 || !sameBallot(leader, own)) {
    return replies.some((reply) => reply.happy && sameBallot(reply.ballot, leader))
  }
  if (replies.some((reply) => reply.happy && compareBallots(reply.leader, own) > 0)) return true
  const leadership = replica.leadership
  // One who has been preparing for long (it fetches a checkpoint, say) lets others try.
  const patience = 5 * replica.options.electionTimeoutMilliseconds
  if (leadership?.phase === 'prepare' && replica.now - leadership.since > patience) return false
  const quorum = isLeading(replica) ? acceptQuorum(replica.configuration) : prepareQuorum(replica.configuration)
  return replies.filter((reply) => compareBallots(reply.leader, own) <= 0).length + 1 >= quorum
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
