/**
 * From one configuration to the next, by stop-sign (Omni-Paxos, EuroSys 2023). PURE.
 *
 * New voters learn first. The stop-sign is proposed when a quorum of the new set lags by a bounded number of
 * entries; it is the last entry of its configuration, and no proposal is taken after it. Whoever has decided
 * it (and holds it durably) starts the next configuration; nobody votes in it before. The leader that was
 * agreed on takes over at once. Messages of an older configuration are answered with what ended it.
 */
import { type Configuration, type LogIndex, type NodeId, compareBallots, logIndex, nodeId } from '../vocabulary.ts'
import { hint, pump } from './catch-up.ts'
import { beginRecall, leaveDoubtBehind } from './doubt.ts'
import { createElection } from './election.ts'
import { appendAsLeader, mayTakeOver, stepDown, takeOver } from './leader.ts'
import { forgetGrants } from './leases.ts'
import { entryAt, lastIndex, sameConfiguration } from './log.ts'
import type { Invite, Message, Sealed } from './messages.ts'
import { isLearner, isVoter, prepareQuorum } from './quorum.ts'
import { failReads } from './reads.ts'
import { enterConfiguration, requestPrepare, send } from './changes.ts'
import { type Replica, holdsPrefix, isInSight, isLeading, peers, pendingConfiguration, votes } from './state.ts'

/** Begins a change; again and again the same one is no new one. Not the leader, or another one under way: nothing. */
export function onReconfigure(replica: Replica, next: Configuration): void {
  const leadership = replica.leadership
  if (!isLeading(replica) || !leadership || next.id !== replica.configuration.id + 1) return
  if (next.voters.length === 0 || pendingConfiguration(replica) !== null) return
  const running = leadership.reconfiguration
  if (running && !sameConfiguration(running.next, next)) return
  leadership.reconfiguration ??= { next, invitedAt: -Infinity }
  tickReconfiguration(replica)
}

/** Too late once the stop-sign is in the log. */
export function onWithdraw(replica: Replica): void {
  if (replica.leadership) replica.leadership.reconfiguration = null
}

/** Invites the new members, and proposes the stop-sign when enough of the new voters are near. */
export function tickReconfiguration(replica: Replica): void {
  const leadership = replica.leadership
  const running = leadership?.reconfiguration
  if (!leadership || !running || !isLeading(replica) || pendingConfiguration(replica) !== null) return
  const { next } = running
  if (replica.now - running.invitedAt >= replica.options.resendMilliseconds) {
    running.invitedAt = replica.now
    const invite = { kind: 'invite', configuration: replica.configuration.id, decided: replica.decided } as const
    // An invitation promises nothing.
    for (const { id } of next.voters) if (!isVoter(replica.configuration, id)) send(replica, id, invite, 'now')
  }
  if (leadership.transfer !== null) return
  const near = replica.known - replica.options.reconfigurationLagEntries
  // Near is not enough: a node that is gone, or never came, would stop the next configuration.
  const ready = next.voters.filter(({ id }) => isInSight(replica, id) && holds(replica, id) >= near).length
  if (ready < prepareQuorum(next)) return
  leadership.reconfiguration = null
  const index = logIndex(lastIndex(replica.log) + 1)
  // Reads that are confirmed are right; answers that come from now on are not counted (see reads.ts).
  appendAsLeader(replica, { kind: 'stop-sign', index, next })
}

/** How far a node is, as far as the leader knows; -1 for one that has not been heard of. */
function holds(replica: Replica, id: NodeId): number {
  if (id === replica.self) return lastIndex(replica.log)
  const leadership = replica.leadership!
  const progress = leadership.progress.get(id)
  if (progress) return progress.state === 'replicating' ? progress.acked : -1
  return leadership.reports.get(id) ?? -1
}

/** Starts each configuration whose stop-sign is decided here. */
export function startDecided(replica: Replica): void {
  while (replica.lookedThrough < replica.decided) {
    const entry = entryAt(replica.log, ++replica.lookedThrough)
    if (entry?.kind !== 'stop-sign') continue
    if (entry.next.id === replica.configuration.id) {
      // A node that joined late was told its configuration before it came upon the stop-sign that started it. The next
      // start comes upon it again, or finds it in a checkpoint.
      replica.configuration = entry.next
      replica.configurationStart = entry.index
    }
    if (entry.next.id > replica.configuration.id) startConfiguration(replica, entry.next, entry.index)
  }
}

function startConfiguration(replica: Replica, next: Configuration, start: LogIndex): void {
  const previous = replica.configuration
  const led = isLeading(replica)
  const successor = chooseLeader(replica, next)
  enterConfiguration(replica, next, start)
  if (led) announce(replica, previous, next, start, successor)
  const leads = successor === replica.self || replica.leadsFrom === next.id
  enter(replica, previous, led && leads && isVoter(next, replica.self), nodeId(leads ? replica.self : successor))
  if (!votes(replica)) return
  if (leads && replica.decided === lastIndex(replica.log) && mayTakeOver(replica)) takeOver(replica, true)
  else requestPrepare(replica, peers(replica))
}

/** Becomes what the new configuration makes of this node. `keepsReads`: it is about to lead. `agreed`: who is to. */
function enter(replica: Replica, previous: Configuration, keepsReads: boolean, agreed: NodeId): void {
  const { configuration, self } = replica
  const reads = replica.reads
  leaveDoubtBehind(replica)
  forgetGrants(replica)
  if (keepsReads) replica.reads = []
  stepDown(replica)
  if (keepsReads) replica.reads = reads
  else failReads(replica)
  replica.followed = null
  replica.phase = votes(replica) ? 'recover' : 'idle'
  const happy = !replica.unreachable.has(agreed)
  replica.election = createElection(self, configuration.id, replica.promise, replica.now, { agreed, happy })
  beginRecall(replica)
  const named = votes(replica) || isLearner(configuration, self)
  if (named) replica.removed = false
  else if (isVoter(previous, self) || isLearner(previous, self)) {
    replica.removed = true
    replica.fetch.invitedUntil = -Infinity
  }
}

/** A checkpoint has brought a newer configuration along. */
export function enterInstalled(replica: Replica, configuration: Configuration, start: LogIndex): void {
  const previous = replica.configuration
  replica.configuration = configuration
  replica.configurationStart = start
  if (configuration.id === previous.id) return
  replica.effects.push({ kind: 'configuration-changed', configuration, start })
  enter(replica, previous, false, nodeId(0))
  if (votes(replica)) requestPrepare(replica, peers(replica))
}

/** Who leads the next configuration at once: the preferred one, or this leader, or the most advanced; 0: not ours to say. */
function chooseLeader(replica: Replica, next: Configuration): number {
  if (isVoter(next, next.preferredLeader)) return next.preferredLeader
  if (!isLeading(replica)) return 0
  if (isVoter(next, replica.self)) return replica.self
  const ids = next.voters.map((member) => member.id)
  return ids.reduce((best, id) => (holds(replica, id) > holds(replica, best) ? id : best))
}

/** The leader that has decided the stop-sign tells everyone whom it concerns; it is decided, so nothing waits for a sync. */
function announce(
  replica: Replica,
  previous: Configuration,
  next: Configuration,
  index: LogIndex,
  successor: number,
): void {
  for (const { id } of [...next.voters, ...next.learners]) {
    if (!isVoter(previous, id)) send(replica, id, { kind: 'sealed', index, next }, 'now')
  }
  if (successor === replica.self || next.preferredLeader === successor) return
  const ballot = { configuration: next.id, n: 0, priority: 0, node: replica.self }
  for (const { id } of next.voters) if (id === successor) send(replica, id, { kind: 'take-over', ballot }, 'now')
}

/** Answers a message of an older configuration. Where a joining node does not know the start, it has nothing to say. */
export function answerOlder(replica: Replica, from: NodeId): void {
  const { configuration: next, configurationStart: index } = replica
  if (index > 0 && holdsPrefix(replica)) send(replica, from, { kind: 'sealed', index, next }, 'now')
}

/** The configuration we are in is over: go and get the rest of it. */
export function onSealed(replica: Replica, from: NodeId, message: Sealed): void {
  // Known already, it may only wait for our disk.
  if (message.next.id <= replica.configuration.id || message.index <= replica.known) return
  leavePhase(replica)
  for (const { id } of message.next.voters) {
    if (id === replica.self) wanted(replica)
    else replica.fetch.hinted.add(id)
  }
  // Removed once and a learner now: the log up to there is wanted, too.
  if (isLearner(message.next, replica.self)) wanted(replica)
  hint(replica, from, message.index)
}

/** A leader or follower of a configuration that is over follows nobody: it may learn again. */
function leavePhase(replica: Replica): void {
  stepDown(replica)
  if (replica.phase === 'accept' || replica.phase === 'promised') replica.phase = 'recover'
}

/** A message of a configuration that has not started here: its sender is ahead of us. */
export function onNewer(replica: Replica, from: NodeId, message: Message): void {
  if (message.kind === 'prepare') {
    const early = replica.early?.message.ballot
    if (!early || compareBallots(message.ballot, early) >= 0) replica.early = { from, message }
  } else if (message.kind === 'take-over') {
    replica.leadsFrom = message.ballot.configuration
  }
  // The stop-sign is known to be decided, and only waits for our own disk.
  if (pendingConfiguration(replica) !== null && replica.known === lastIndex(replica.log)) return
  leavePhase(replica)
  // Such messages go to voters: we are one there, even where we were removed once.
  wanted(replica)
  hint(replica, from, replica.known + 1)
}

/** This node is needed: it fetches, and often, for a while. */
function wanted(replica: Replica): void {
  replica.fetch.invitedUntil = replica.now + 5 * replica.options.resendMilliseconds
}

/** Wanted as a voter: fetch often, from the leader too. */
export function onInvite(replica: Replica, from: NodeId, message: Invite): void {
  const { id } = replica.configuration
  if (message.configuration < id) return
  if (votes(replica)) {
    // That the configuration in which it votes is over nobody else may tell it: all the others may have left.
    if (message.configuration > id) onNewer(replica, from, message)
    return
  }
  wanted(replica)
  replica.fetch.hinted.add(from)
  if (message.decided > replica.known) hint(replica, from, message.decided)
  else pump(replica)
}
