/**
 * The consensus core's face: create a replica, step it, ask it. PURE: a function from (state, event) to
 * effects; the same events give the same effects on every machine.
 *
 * Omni-Paxos (Ng, Haridi, Carbone, EuroSys 2023): election.ts chooses who may lead, leader.ts and follower.ts
 * replicate, reads.ts confirms, reconfiguration.ts changes the members, catch-up.ts brings the late ones up.
 */
import { invariant, unreachable } from '../invariant.ts'
import {
  type Ballot,
  type Configuration,
  type Entry,
  type LogIndex,
  type NodeId,
  type RecoveredLog,
} from '../vocabulary.ts'
import { ZERO_BALLOT, logIndex, nodeId, sameBallot } from '../vocabulary.ts'
import {
  createFetch,
  installCheckpoint,
  onDecidedEntries,
  onFetchDecided,
  onLogRead,
  onNoLongerHere,
} from './catch-up.ts'
import { acceptsCheckpoint, pump, tickFetch } from './catch-up.ts'
import { beginRecall, onAskPromise, onTellPromise, tickRecall } from './doubt.ts'
import { createElection, onDisconnected, onHeartbeatReply, onHeartbeatRequest, onSight } from './election.ts'
import { settleElection, tickElection } from './election.ts'
import type { Effect, Event, Milliseconds, Position } from './events.ts'
import { onAcceptDecide, onAcceptSync, onBeacon, onCatchUp, onDecide, onPrepare, onTakeOver } from './follower.ts'
import { answerHeld, sayAccepted, tickFollower } from './follower.ts'
import {
  appendAsLeader,
  endTransfer,
  onAccepted,
  onNotAccepted,
  onPrepareRequest,
  onPromise,
  onResend,
  onTransfer,
} from './leader.ts'
import { acceptsProposals, sendBeacon, sendPrepare, tally, tickLeader, tickTransfer, tryAdopt } from './leader.ts'
import { NO_GRANT, grantAtStart, onLeaseGrant, onLeaseRelease, onLeaseRequest, tickLease } from './leases.ts'
import { createLog, dropThrough, lastIndex, slice } from './log.ts'
import { type Message, configurationOf } from './messages.ts'
import { isVoter } from './quorum.ts'
import { confirmReads, onRead, onReadAck, onReadProbe, tickReads } from './reads.ts'
import {
  answerOlder,
  enterInstalled,
  onInvite,
  onNewer,
  onReconfigure,
  onSealed,
  onWithdraw,
} from './reconfiguration.ts'
import { startDecided, tickReconfiguration } from './reconfiguration.ts'
import { leaderOf } from './status.ts'
import { advanceDecided, recordDecided, requestPrepare, takePersisted } from './changes.ts'
import { type Options, type Replica, DEFAULT_OPTIONS, isLeading, votes } from './state.ts'

export { acceptsCheckpoint, acceptsProposals, DEFAULT_OPTIONS }
export { isShortOfRoom } from './room.ts'
export { isLeading as isLeader }
export { leaderOf, statusOf, type ReplicaStatus } from './status.ts'
export type { Options, Replica }

/**
 * A replica as storage gave it back, or as genesis or join made it: then `recovered.state.configuration` is
 * all there is, and it must be durable before. It says nothing until the first event.
 */
export function createReplica(from: {
  readonly self: NodeId
  readonly recovered: RecoveredLog
  readonly options?: Partial<Options>
  readonly now: Milliseconds
  /** Another number at each start of this node: answers to questions of an earlier one are none to this. */
  readonly start?: number
}): Replica {
  const { self, recovered, now, start = 0 } = from
  const { state, entries, first, doubtfulFrom, promiseLost = false } = recovered
  const configuration = state.configuration
  invariant(configuration !== null, 'a replica has a configuration; before that a node waits')
  const log = createLog(first, entries)
  const last = lastIndex(log)
  // Decided may be ahead of a log that lost its end; what a checkpoint covers is decided.
  const decided = logIndex(Math.max(Math.min(state.decided, last), first - 1))
  const named = [...configuration.voters, ...configuration.learners].some((member) => member.id === self)
  const replica: Replica = {
    self,
    start,
    options: { ...DEFAULT_OPTIONS, ...from.options },
    now,
    // What is known decided from before is for the shell to apply: it learns of it with the first step.
    effects: decided >= first ? [{ kind: 'decided', index: decided }] : [],
    log,
    promise: state.promise,
    acceptedBallot: state.acceptedBallot,
    known: decided,
    decided,
    configuration,
    configurationStart: state.configurationStart,
    doubtfulFrom,
    promiseLost,
    recall: null,
    room: 'enough',
    promisedAt: -Infinity,
    fullPeers: new Set(),
    lookedThrough: first - 1,
    durable: last,
    durableBallot: state.acceptedBallot,
    durablePromise: state.promise,
    generation: 0,
    recordedDecided: state.decided,
    recordedAt: now,
    phase: 'idle',
    election: createElection(self, configuration.id, state.promise, now, { agreed: nodeId(0), happy: false }),
    leadership: null,
    grant: NO_GRANT,
    heldPrepare: null,
    followed: null,
    reads: [],
    fetch: createFetch(),
    migration: { sentBytes: 0, receivedBytes: new Map() },
    early: null,
    leadsFrom: 0,
    removed: !named && state.promise.n > 0,
    rejoinedAt: null,
    lastHeard: new Map(),
    lastMoved: new Map(),
    unreachable: new Set(),
    lastPrepareRequest: -Infinity,
    lastResend: { from: 0, at: -Infinity },
    announced: { leader: null, ballot: ZERO_BALLOT },
  }
  if (votes(replica)) replica.phase = 'recover'
  replica.grant = grantAtStart(replica)
  beginRecall(replica)
  return replica
}

/** Takes one event; gives the effects in the order in which the shell must see to them (see events.ts). */
export function step(replica: Replica, event: Event): Effect[] {
  replica.now = Math.max(replica.now, event.now)
  take(replica, event)
  settle(replica)
  const effects = replica.effects
  replica.effects = []
  return effects
}

function take(replica: Replica, event: Event): void {
  switch (event.kind) {
    case 'tick':
      return onTick(replica)
    case 'message':
      return onMessage(replica, event.from, event.message)
    case 'propose': {
      invariant(acceptsProposals(replica), 'proposals are taken while acceptsProposals() only')
      const index = logIndex(lastIndex(replica.log) + 1)
      return appendAsLeader(replica, { kind: 'commands', index, payload: event.payload })
    }
    case 'read':
      return onRead(replica, event.id)
    case 'reconfigure':
      return onReconfigure(replica, event.next)
    case 'withdraw':
      return onWithdraw(replica)
    case 'transfer':
      return onTransfer(replica, event.to)
    case 'persisted':
      return onPersisted(replica, event.position)
    case 'checkpoint-installed':
      return onCheckpointInstalled(replica, event.index, event.configuration, event.start)
    case 'room':
      replica.room = event.room
      return pump(replica)
    case 'trim':
      // A start that has heard nothing yet has not come upon the stop-signs among them.
      startDecided(replica)
      return dropThrough(replica.log, Math.min(event.index, replica.decided), replica.options.keepEntriesBytes)
    case 'log-read':
      return onLogRead(replica, event.to, event.from, event.entries, event.first)
    case 'reconnected':
      return onReconnected(replica, event.peer)
    case 'moving':
      replica.lastMoved.set(event.peer, event.now)
      return
    case 'disconnected':
      endTransfer(replica, event.peer)
      return onDisconnected(replica, event.peer)
    default:
      return unreachable(event)
  }
}

/** What follows from an event whatever it was: configurations that start, leadership that begins or changes. */
function settle(replica: Replica): void {
  startDecided(replica)
  if (replica.phase === 'idle' && votes(replica)) {
    // What rot had taken of the configurations before is here again.
    replica.phase = 'recover'
    beginRecall(replica)
  }
  const early = replica.early
  if (early && early.message.ballot.configuration <= replica.configuration.id) {
    replica.early = null
    if (early.message.ballot.configuration === replica.configuration.id) route(replica, early.from, early.message)
  }
  answerHeld(replica)
  tryAdopt(replica)
  settleElection(replica)
  tickTransfer(replica)
  tickReconfiguration(replica)
  confirmReads(replica)
  if (replica.phase === 'recover' && replica.fetch.goal > 0 && replica.decided >= replica.fetch.goal) {
    // Caught up, durably, with what was known to be missing: back to the leader.
    replica.fetch.goal = 0
    requestPrepare(
      replica,
      replica.configuration.voters.map((member) => member.id).filter((id) => id !== replica.self),
    )
  }
  announceLeader(replica)
}

function announceLeader(replica: Replica): void {
  const leader = leaderOf(replica)
  const ballot = leader === null ? replica.promise : isLeading(replica) ? replica.leadership!.ballot : replica.followed!
  const { announced } = replica
  if (announced.leader === leader && (leader === null || sameBallot(announced.ballot, ballot))) return
  replica.announced = { leader, ballot }
  replica.effects.push({ kind: 'leader-changed', leader, ballot })
}

function onTick(replica: Replica): void {
  tickElection(replica)
  tickLeader(replica)
  tickFollower(replica)
  tickRecall(replica)
  tickLease(replica)
  tickFetch(replica)
  tickReads(replica)
  // Nothing was written for a while: note what is decided, so that a restart knows.
  if (replica.now - replica.recordedAt >= 1000) recordDecided(replica)
}

function onPersisted(replica: Replica, position: Position): void {
  const moved = takePersisted(replica, position)
  advanceDecided(replica)
  if (!moved) return
  if (isLeading(replica)) tally(replica)
  else sayAccepted(replica)
}

function onCheckpointInstalled(replica: Replica, index: LogIndex, configuration: Configuration, start: LogIndex): void {
  if (!acceptsCheckpoint(replica, index, configuration)) return
  // A node that joined late was told of a configuration that may be newer than the checkpoint's.
  const told = configuration.id < replica.configuration.id
  const inForce = told ? replica.configuration : configuration
  const since = told ? replica.configurationStart : start
  installCheckpoint(replica, index, inForce, since)
  enterInstalled(replica, inForce, since)
  replica.lastPrepareRequest = -Infinity
  pump(replica)
}

/** What was in flight on the lost connection may be gone: ask, or show, at once where things stand. */
function onReconnected(replica: Replica, peer: NodeId): void {
  replica.unreachable.delete(peer)
  replica.fetch.pending.delete(peer)
  replica.fetch.avoided.delete(peer)
  const progress = replica.leadership?.progress.get(peer)
  if (progress?.state === 'replicating') sendBeacon(replica, peer)
  else if (progress) sendPrepare(replica, peer)
  else if (replica.phase === 'recover' && isVoter(replica.configuration, peer)) requestPrepare(replica, [peer])
  else if (replica.phase === 'accept' && replica.promise.node === peer) sayAccepted(replica)
  pump(replica)
}

/** Sorts by configuration: an older one is answered with its end, a newer one means that ours has ended. */
function onMessage(replica: Replica, from: NodeId, message: Message): void {
  if (from === replica.self) return
  replica.lastHeard.set(from, replica.now)
  onSight(replica, from)
  const configuration = configurationOf(message)
  if (configuration === null) return route(replica, from, message)
  if (configuration < replica.configuration.id) return answerOlder(replica, from)
  if (configuration > replica.configuration.id) return onNewer(replica, from, message)
  if (!votes(replica)) return
  // Only voters of this configuration have a say in it; a leader that left it may name who is to lead.
  if (isVoter(replica.configuration, from) || message.kind === 'take-over') route(replica, from, message)
}

function route(replica: Replica, from: NodeId, message: Message): void {
  switch (message.kind) {
    case 'heartbeat-request':
      return onHeartbeatRequest(replica, from, message)
    case 'heartbeat-reply':
      return onHeartbeatReply(replica, from, message)
    case 'prepare-request':
      return onPrepareRequest(replica, from)
    case 'prepare':
      return onPrepare(replica, from, message)
    case 'promise':
      return onPromise(replica, from, message)
    case 'accept-sync':
      return onAcceptSync(replica, from, message)
    case 'accept-decide':
      return onAcceptDecide(replica, from, message)
    case 'accepted':
      return onAccepted(replica, from, message)
    case 'decide':
      return onDecide(replica, from, message)
    case 'beacon':
      return onBeacon(replica, from, message)
    case 'resend':
      return onResend(replica, from, message)
    case 'not-accepted':
      return onNotAccepted(replica, from, message)
    case 'read-probe':
      return onReadProbe(replica, from, message)
    case 'read-ack':
      return onReadAck(replica, from, message)
    case 'ask-promise':
      return onAskPromise(replica, from, message)
    case 'tell-promise':
      return onTellPromise(replica, from, message)
    case 'lease-request':
      return onLeaseRequest(replica, from, message)
    case 'lease-grant':
      return onLeaseGrant(replica, from, message)
    case 'lease-release':
      return onLeaseRelease(replica, from, message)
    case 'take-over':
      return onTakeOver(replica, from, message)
    case 'catch-up':
      return onCatchUp(replica, from, message)
    case 'fetch-decided':
      return onFetchDecided(replica, from, message)
    case 'decided-entries':
      return onDecidedEntries(replica, from, message)
    case 'no-longer-here':
      return onNoLongerHere(replica, from, message)
    case 'sealed':
      return onSealed(replica, from, message)
    case 'invite':
      return onInvite(replica, from, message)
    default:
      return unreachable(message)
  }
}

/** Where the log is: the shell takes it when it hands a frame to storage, and gives it back with `persisted`. */
export function position(replica: Replica): Position {
  const { promise, acceptedBallot, generation } = replica
  return { promise, acceptedBallot, index: lastIndex(replica.log), generation }
}

/** Entries `from`…`to`, both included, as far as they are in memory (see `decided` and `trim`). */
export const entriesBetween = (replica: Replica, from: LogIndex, to: LogIndex, mostBytes = Infinity): Entry[] =>
  slice(replica.log, from, to, mostBytes)

/** The ballot under which this replica leads or follows; ZERO_BALLOT where it does neither. */
export const ballotOf = (replica: Replica): Ballot =>
  isLeading(replica) ? replica.leadership!.ballot : (replica.followed ?? ZERO_BALLOT)
