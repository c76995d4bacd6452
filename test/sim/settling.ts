/**
 * Whether a cluster of replicas has come to rest: one leader, everything decided everywhere, nobody waits, and something
 * new gets decided. What is asked for in peace, and when nothing of it can be expected without a person.
 */
import { acceptsProposals, isLeader, statusOf } from '../../src/consensus/replica.ts'
import { prepareQuorum } from '../../src/consensus/quorum.ts'
import { pendingConfiguration } from '../../src/consensus/state.ts'
import type { Configuration, NodeId } from '../../src/vocabulary.ts'
import type { CheckedNode, Checker } from './checker.ts'

interface Node extends CheckedNode {
  readonly up: boolean
}

export interface Cluster<N extends Node = Node> {
  readonly nodes: ReadonlyMap<NodeId, N>
  readonly checker: Checker
}

export class Settling<N extends Node> {
  readonly #cluster: Cluster<N>
  readonly #propose: (leader: N) => void
  /** A member that is gone. */
  missing: NodeId | null
  /** How much was decided when the last proposal was made; -1: none was. */
  #proposedAt = -1

  constructor(cluster: Cluster<N>, propose: (leader: N) => void, missing: NodeId | null = null) {
    this.#cluster = cluster
    this.#propose = propose
    this.missing = missing
  }

  /** Asks, too, for what must still happen. */
  get isDone(): boolean {
    const { nodes, checker } = this.#cluster
    const { configuration, decided } = checker
    const members = configuration.voters.filter(({ id }) => id !== this.missing)
    if (members.some(({ id }) => !nodes.has(id))) return false
    const voters = members.map(({ id }) => nodes.get(id)!)
    const learners = configuration.learners.flatMap(({ id }) => nodes.get(id) ?? []).filter((node) => node.up)
    const leader = voters.find((node) => node.up && isLeader(node.replica!))
    if (leader === undefined || statusOf(leader.replica!).configuration.id !== configuration.id) return false
    const missing = this.#proposedAt < 0 ? acceptsProposals(leader.replica!) : decided.length === this.#proposedAt
    if (missing && acceptsProposals(leader.replica!)) {
      this.#proposedAt = decided.length
      this.#propose(leader)
    }
    if (this.#proposedAt < 0 || decided.length === this.#proposedAt) return false
    return (
      voters.every((node) => node.applied === decided.length && hasSettled(node)) &&
      learners.every((node) => node.applied === decided.length && hasArrived(node))
    )
  }
}

const hasArrived = (node: Node): boolean => {
  const { caughtUp, configurationComplete } = statusOf(node.replica!)
  return caughtUp && configurationComplete
}

const hasSettled = (node: Node): boolean => {
  if (!node.up || !hasArrived(node)) return false
  const { leader, reconfiguration } = statusOf(node.replica!)
  // Nobody waits: every read was answered or refused.
  return leader !== null && reconfiguration === null && node.replica!.reads.length === 0
}

/** Whether what the node has lost to rot takes a person (docs/SPEC.md): nobody else has it, or knows that it is decided. */
export function takesAPerson({ nodes, checker }: Cluster, id: NodeId): boolean {
  const replica = nodes.get(id)!.replica
  // The last change may wait for what the configuration before decided.
  return checker.configurations.slice(-2).some(({ configuration }) => {
    const { voters } = configuration
    if (!voters.some((voter) => voter.id === id)) return false
    const hasLeft = replica !== null && replica.configuration.id > configuration.id
    const isLost = hasLeft && replica.decided < replica.configurationStart
    // Rot does not reach who votes alone, only who has before, or will: that one learns what it lost from the others.
    if (voters.length === 1) return replica === null || replica.promiseLost || isLost
    return voters.length === 2 && isLost
  })
}

/** Configurations that are in force or to come. */
export function configurationsOf({ nodes, checker }: Cluster): Configuration[] {
  const { configurations, decided } = checker
  const isComplete = decided.length > configurations.at(-1)!.start
  const toCome = [...nodes.values()].flatMap(({ replica }) =>
    replica === null ? [] : [replica.leadership?.reconfiguration?.next ?? pendingConfiguration(replica)],
  )
  const inForce = configurations.slice(isComplete ? -1 : -2).map(({ configuration }) => configuration)
  return [...inForce, ...toCome.filter((next) => next !== null)]
}

/** Whether everything must go on without the node, where no storage is damaged. */
export function mayLack(cluster: Cluster, id: NodeId, gone: ReadonlySet<NodeId>): boolean {
  return configurationsOf(cluster).every((configuration) => {
    const others = configuration.voters.filter((voter) => voter.id !== id && !gone.has(voter.id))
    return others.length >= prepareQuorum(configuration)
  })
}

/** Nobody but a person can help the node whose storage was damaged: nothing more is expected. */
export function isLeftToAPerson(cluster: Cluster, damaged: NodeId | null): boolean {
  if (damaged === null || !cluster.nodes.has(damaged) || !takesAPerson(cluster, damaged)) return false
  return (cluster.nodes.get(damaged)!.replica?.doubtfulFrom ?? null) !== null
}

/** A change that names the node is under way, proposed or not. */
export function isWanted({ nodes }: Cluster, id: NodeId): boolean {
  return [...nodes.values()].some((node) => {
    if (node.replica === null) return true
    const { reconfiguration } = statusOf(node.replica)
    return reconfiguration !== null && reconfiguration.voters.includes(id)
  })
}
