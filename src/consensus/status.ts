/**
 * What a replica knows about itself and others, for the node's status. PURE; it changes nothing.
 */
import type { Ballot, Configuration, LogIndex, NodeId } from '../vocabulary.ts'
import { ZERO_BALLOT, logIndex } from '../vocabulary.ts'
import { lastIndex } from './log.ts'
import { acceptQuorum, isLearner, isVoter } from './quorum.ts'
import { type Replica, holdsPrefix, isInSight, isLeading, pendingConfiguration, votes } from './state.ts'

/** Who leads, as far as this replica can tell: only who was elected and is in sight. */
export function leaderOf(replica: Replica): NodeId | null {
  if (isLeading(replica)) return replica.self
  return replica.followed?.node ?? null
}

export interface ReplicaStatus {
  /** `removed`: was a member and is none any more. */
  readonly phase: 'member' | 'learner' | 'removed'
  readonly role: 'leader' | 'follower' | 'learner' | 'none'
  readonly leader: NodeId | null
  readonly ballot: Ballot
  readonly configuration: Configuration
  readonly configurationStart: LogIndex
  /** A quorum of `configuration` holds the whole prefix, and its first entry is decided. */
  readonly configurationComplete: boolean
  readonly decided: LogIndex
  /** Durable here. */
  readonly accepted: LogIndex
  /** Since its start it has rejoined, and decided what was decided then. */
  readonly caughtUp: boolean
  /** Leader: it was in contact with a quorum within two election timeouts. Others: they see a leader. */
  readonly quorumContact: boolean
  readonly reconfiguration: { readonly voters: readonly NodeId[]; readonly state: 'catching-up' | 'proposed' } | null
  /** Leader: proposals are held back, for this target. */
  readonly transferTo: NodeId | null
  /**
   * Leader: every other voter, every learner and every node that reports while it catches up. `inFlightBytes`: sent
   * and not yet accepted.
   */
  readonly progress: readonly {
    readonly id: NodeId
    readonly accepted: LogIndex
    readonly connected: boolean
    readonly inFlightBytes: number
  }[]
  /** Entries that other nodes asked this one for, and that it asked others for, since its start. */
  readonly migration: {
    readonly sentBytes: number
    readonly received: readonly { readonly id: NodeId; readonly bytes: number }[]
  }
  /** Entries before this one are in the checkpoint only. */
  readonly first: LogIndex
}

export function statusOf(replica: Replica): ReplicaStatus {
  const { configuration, self, decided, rejoinedAt, leadership } = replica
  const learns = isLearner(configuration, self) || !replica.removed
  return {
    phase: votes(replica) ? 'member' : learns ? 'learner' : 'removed',
    role: isLeading(replica) ? 'leader' : votes(replica) ? 'follower' : learns ? 'learner' : 'none',
    leader: leaderOf(replica),
    ballot: isLeading(replica) ? leadership!.ballot : (replica.followed ?? ZERO_BALLOT),
    configuration,
    configurationStart: replica.configurationStart,
    configurationComplete: holdsPrefix(replica) && decided > replica.configurationStart,
    decided,
    accepted: replica.durable,
    caughtUp: rejoinedAt !== null && decided >= rejoinedAt,
    quorumContact: hasContact(replica),
    reconfiguration: reconfigurationOf(replica),
    transferTo: leadership?.transfer?.to ?? null,
    progress: isLeading(replica) ? progressOf(replica) : [],
    migration: {
      sentBytes: replica.migration.sentBytes,
      received: [...replica.migration.receivedBytes].map(([id, bytes]) => ({ id, bytes })),
    },
    first: logIndex(replica.log.first),
  }
}

function hasContact(replica: Replica): boolean {
  const { configuration, self } = replica
  if (!isLeading(replica)) return replica.followed !== null
  const others = configuration.voters.filter((member) => member.id !== self && isInSight(replica, member.id)).length
  return others + 1 >= acceptQuorum(replica.configuration)
}

function reconfigurationOf(replica: Replica): ReplicaStatus['reconfiguration'] {
  const pending = pendingConfiguration(replica)
  if (pending) return { voters: pending.voters.map((member) => member.id), state: 'proposed' }
  const running = replica.leadership?.reconfiguration
  return running ? { voters: running.next.voters.map((member) => member.id), state: 'catching-up' } : null
}

function progressOf(replica: Replica): ReplicaStatus['progress'] {
  const { leadership, configuration, self } = replica
  const held = new Map<NodeId, number>()
  for (const { id } of configuration.learners) held.set(id, 0)
  for (const [id, index] of leadership!.reports) if (!isVoter(configuration, id)) held.set(id, index)
  for (const [id, progress] of leadership!.progress) held.set(id, progress.acked)
  held.set(self, Math.min(replica.durable, lastIndex(replica.log)))
  return [...held].map(([id, index]) => ({
    id,
    accepted: logIndex(index),
    connected: isInSight(replica, id),
    inFlightBytes: leadership!.progress.get(id)?.inFlightBytes ?? 0,
  }))
}
