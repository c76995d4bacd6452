/**
 * The status of a node as the admin port tells it (contract.ts), from what consensus and machine know.
 */
import type { Config } from '../config.ts'
import { acceptQuorum } from '../consensus/quorum.ts'
import { holdsLease } from '../consensus/leases.ts'
import type { ConfigurationJson, MemberJson, NodePhase, NodeStatus, RotJson } from '../contract.ts'
import type { LokiError } from '../errors.ts'
import type { Member } from './member.ts'
import type { Storage } from '../storage/storage.ts'
import { type ClusterId, type Configuration, type Member as MemberOf, optionsOf } from '../vocabulary.ts'

const memberJson = (member: MemberOf): MemberJson => ({
  id: member.id,
  volumeId: member.volume,
  address: member.address,
})

const configurationJson = (configuration: Configuration): ConfigurationJson => ({
  id: configuration.id,
  voters: configuration.voters.map(memberJson),
  learners: configuration.learners.map(memberJson),
  ...optionsOf(configuration),
})

/** A node that is no member yet, or was refused. */
export function waitingStatus(
  config: Config,
  storage: Storage | null,
  refusal: LokiError | null,
  version: string,
): NodeStatus {
  const phase: NodePhase = refusal ? 'refused' : storage ? (storage.identity ? 'recovering' : 'waiting') : 'recovering'
  return {
    phase: storage?.identity && !storage.recovered.state.configuration ? 'waiting' : phase,
    version,
    ready: false,
    volumeId: storage?.volume ?? null,
    clusterId: storage?.identity?.cluster ?? null,
    nodeId: storage?.identity?.node ?? null,
    address: config.address,
    timeline: storage?.timeline ?? 0,
    role: 'none',
    leaderId: null,
    configuration: null,
    configurationComplete: false,
    decidedIndex: '0',
    appliedIndex: '0',
    acceptedIndex: '0',
    caughtUp: false,
    reconfiguration: null,
    progress: [],
    refusal: refusal && { code: refusal.code, message: refusal.message },
    lastCheckpointIndex: String(storage?.checkpoint?.index ?? 0),
    readOnly: storage?.readOnly ?? false,
  }
}

function rotJson(member: Member): RotJson {
  const { found, last } = member.storage.status().rot
  const { doubtfulFrom } = member.turn.replica
  return {
    found,
    last,
    open: member.hasOpenRot,
    doubtfulFrom: doubtfulFrom === null ? null : String(doubtfulFrom),
  }
}

/** What a member adds to the figures of a node; null: there is none yet. */
export function memberFigures(member: Member | null) {
  const received = member?.migration.received ?? []
  return {
    leader: member?.isLeader ?? false,
    leaseHeld: member !== null && holdsLease(member.turn.replica),
    outstandingCommands: member?.turn.relay.outstanding ?? 0,
    leaderChanges: member?.leaderChanges ?? 0,
    checkpointFailures: member?.checkpointFailures ?? 0,
    migrationSentBytes: member?.migration.sentBytes ?? 0,
    migrationReceivedBytes: received.reduce((sum, { bytes }) => sum + bytes, 0),
  }
}

/** What INFO, ROLE and CLUSTER tell of a member. */
export function memberFacts(member: Member, cluster: ClusterId, clientPort: number) {
  const { turn } = member
  const { status, machine } = turn
  return {
    nodeId: turn.self,
    clusterId: cluster,
    role: status.role,
    leaderId: status.leader,
    configurationId: status.configuration.id,
    acceptQuorum: acceptQuorum(status.configuration),
    members: status.configuration.voters.map((voter) => ({
      id: voter.id,
      host: voter.address.slice(0, voter.address.lastIndexOf(':')),
      clientPort,
      role: voter.id === status.leader ? ('leader' as const) : ('follower' as const),
    })),
    decidedIndex: turn.decided,
    appliedIndex: machine.applied,
    keys: machine.keys,
    usedMemoryBytes: machine.usedMemoryBytes,
  }
}

/** What was decided when it rejoined is in its state as well: before that its clients wait, and it should not lead. */
export const hasApplied = ({ machine, replica }: Pick<Member['turn'], 'machine' | 'replica'>): boolean =>
  replica.rejoinedAt !== null && machine.applied >= replica.rejoinedAt

/** The part of the status that a member adds. */
export function nodeStatus(member: Member) {
  const { turn, network } = member
  const { status } = turn
  return {
    phase: status.phase satisfies NodePhase,
    role: status.role,
    leaderId: status.leader,
    configuration: configurationJson(status.configuration),
    configurationComplete: status.configurationComplete,
    decidedIndex: String(status.decided),
    appliedIndex: String(turn.machine.applied),
    acceptedIndex: String(status.accepted),
    caughtUp: status.caughtUp && hasApplied(turn),
    migration: member.migration,
    rot: rotJson(member),
    checkpointFailure: member.checkpointFailure,
    reconfiguration: status.reconfiguration && {
      voters: status.reconfiguration.voters,
      state: status.reconfiguration.state,
    },
    progress: status.progress.map((peer) => ({
      id: peer.id,
      acceptedIndex: String(peer.accepted),
      connected: peer.id === turn.self || network.isConnected(peer.id),
    })),
  }
}
