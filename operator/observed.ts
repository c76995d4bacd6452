/**
 * What the operator sees in one turn, as data, and the facts that rules and plan draw from it. PURE.
 *
 * A fact is true or it is not known; nothing here remembers an earlier turn. The authority on membership is the
 * configuration that the leader holds; members are matched to pods by their address, because ids and volumes
 * may change under a pod and the address never does.
 */
import { ANNOTATIONS, LABELS, names, PORTS } from '../src/contract.ts'
import type { ConfigurationJson, MemberJson, NodeStatus } from '../src/contract.ts'
import type { Genesis } from './manifests.ts'
import { isReady, wanted } from './resource.ts'
import type { Claim, LokiCluster, Pod, StatefulSet } from './resource.ts'

/** A place for a pod: the pod that fills it, if there is one, and what its node answers, if it does. */
export interface ObservedNode {
  readonly ordinal: number
  readonly name: string
  readonly pod: Pod | null
  readonly status: NodeStatus | null
  /** Why there is no status. */
  readonly unanswered: string | null
  /** The pod should have ended by now and is still there: its machine may be gone. */
  readonly overdue: boolean
  /** How long the container has been running; 0 if it is not. */
  readonly runningMilliseconds: number
}

export interface Observed {
  /** When this was seen, as the API writes times. */
  readonly now: string
  readonly cluster: LokiCluster
  /** The image that pods are to run, and the hash of the inputs that they are to be made from. */
  readonly image: string
  readonly hash: string
  readonly statefulSet: StatefulSet | null
  /** By ordinal, without gaps from 0. */
  readonly nodes: readonly ObservedNode[]
  readonly claims: readonly Claim[]
  readonly genesis: Genesis | null
  /** An object that still belongs to a former LokiCluster of this name, such as `StatefulSet orders`; or null. */
  readonly former: string | null
}

/** A node without a leader is given this long before other inputs may be tried on it. */
export const UNSERVING_MILLISECONDS = 60_000

export const clusterName = (observed: Observed): string => observed.cluster.metadata.name

/** The address under which peers know the node of an ordinal. */
export function addressOf(cluster: LokiCluster, ordinal: number): string {
  return `${names.host(cluster.metadata.name, ordinal, cluster.metadata.namespace)}:${PORTS.peer}`
}

/** The ordinal of a member, by its address; null for an address that is none of this cluster's. */
export function ordinalOfMember(cluster: LokiCluster, member: MemberJson): number | null {
  const prefix = `${cluster.metadata.name}-`
  const end = member.address.indexOf('.')
  const digits = member.address.slice(prefix.length, end)
  if (!member.address.startsWith(prefix) || !/^(0|[1-9]\d{0,3})$/.test(digits)) return null
  return member.address === addressOf(cluster, Number(digits)) ? Number(digits) : null
}

// ---- one node -------------------------------------------------------------------------------------------------

export const isTerminating = (node: ObservedNode): boolean => node.pod?.metadata.deletionTimestamp !== undefined

export const isRunning = (node: ObservedNode): boolean =>
  node.pod?.status?.containerStatuses?.[0]?.state?.running !== undefined

export const isOutOfDate = (observed: Observed, node: ObservedNode): boolean =>
  node.pod !== null && node.pod.metadata.annotations?.[ANNOTATIONS.inputsHash] !== observed.hash

/** Runtimes repeat themselves; the beginning says what is wrong. */
const shortened = (text: string): string => (text.length > 160 ? `${text.slice(0, 160)}…` : text)

/** Why a pod does not run, in the words of Kubernetes; null while it runs or simply starts. */
export function stuckReason(node: ObservedNode): string | null {
  if (node.pod === null || isRunning(node)) return null
  const waiting = node.pod.status?.containerStatuses?.[0]?.state?.waiting
  if (waiting?.reason !== undefined && !['ContainerCreating', 'PodInitializing'].includes(waiting.reason)) {
    return `${waiting.reason}${waiting.message === undefined ? '' : `: ${shortened(waiting.message)}`}`
  }
  const scheduled = node.pod.status?.conditions?.find((condition) => condition.type === 'PodScheduled')
  if (scheduled?.status === 'False') return `${scheduled.reason ?? 'Unschedulable'}: ${scheduled.message ?? ''}`
  const exited = node.pod.status?.containerStatuses?.[0]?.state?.terminated
  return exited ? `${exited.reason ?? 'Terminated'} (exit code ${exited.exitCode ?? '?'})` : null
}

// ---- leader and configuration ---------------------------------------------------------------------------------

export type Leader = ObservedNode & { readonly status: NodeStatus & { readonly configuration: ConfigurationJson } }

const leads = (node: ObservedNode): node is Leader =>
  node.status?.role === 'leader' && node.status.phase === 'member' && node.status.configuration !== null

/** Every node that says it leads; more than one during a change of leader, and then nothing is done. */
export const leaders = (observed: Observed): Leader[] => observed.nodes.filter(leads)

export function leaderOf(observed: Observed): Leader | null {
  const claimed = leaders(observed)
  return claimed.length === 1 ? (claimed[0] ?? null) : null
}

/** The leader's configuration; without a leader the newest that any node holds, which may be out of date. */
export function configurationOf(observed: Observed): ConfigurationJson | null {
  const leader = leaderOf(observed)
  if (leader) return leader.status.configuration
  return observed.nodes.reduce<ConfigurationJson | null>((newest, node) => {
    const held = node.status?.configuration ?? null
    return held !== null && (newest === null || held.id > newest.id) ? held : newest
  }, null)
}

/** The member whose address is that of an ordinal. */
export function memberAt(observed: Observed, configuration: ConfigurationJson | null, ordinal: number) {
  const address = addressOf(observed.cluster, ordinal)
  const at = (members: readonly MemberJson[]) => members.find((member) => member.address === address)
  return configuration === null ? undefined : (at(configuration.voters) ?? at(configuration.learners))
}

/** Ordinals of voters, ascending. */
export function voterOrdinals(observed: Observed, configuration: ConfigurationJson | null): number[] {
  return (configuration?.voters ?? [])
    .map((member) => ordinalOfMember(observed.cluster, member))
    .filter((ordinal) => ordinal !== null)
    .sort((a, b) => a - b)
}

/** How many vote; as many as are wanted, or were founders, as long as no node tells of a configuration. */
export function votersOf(observed: Observed): number {
  const configuration = configurationOf(observed)
  if (configuration !== null) return configuration.voters.length
  return Math.max(wantedReplicas(observed), observed.genesis?.founders.length ?? 0)
}

export const majorityOf = (voters: number): number => Math.floor(voters / 2) + 1

/** So many voters must be in touch for one of them to be elected: the fewer have to accept a write, the more. */
export function electionQuorumOf({ voters, acceptQuorum }: Pick<ConfigurationJson, 'voters' | 'acceptQuorum'>): number {
  const majority = majorityOf(voters.length)
  return Math.max(majority, voters.length - (acceptQuorum ?? majority) + 1)
}

/**
 * Whether the node is a member that a majority may count on now: it answers, follows this leader in this
 * configuration under the id that the configuration knows, and has caught up since its start.
 */
export function isHealthy(observed: Observed, leader: Leader, ordinal: number): boolean {
  const node = observed.nodes[ordinal]
  const configuration = leader.status.configuration
  const member = memberAt(observed, configuration, ordinal)
  if (node?.pod == null || node.status === null || member === undefined || isTerminating(node)) return false
  const { status } = node
  const progress = leader.status.progress.find((row) => row.id === member.id)
  return (
    status.phase === 'member' &&
    status.caughtUp &&
    status.nodeId === member.id &&
    status.volumeId === member.volumeId &&
    status.clusterId === leader.status.clusterId &&
    status.configuration?.id === configuration.id &&
    status.leaderId === leader.status.nodeId &&
    (node.ordinal === leader.ordinal || progress === undefined || progress.connected)
  )
}

/** Settled membership: no change is under way and the last one is complete. */
export const isSettled = (leader: Leader): boolean =>
  leader.status.reconfiguration === null && leader.status.configurationComplete

// ---- identity -------------------------------------------------------------------------------------------------

/** Every cluster id that volumes and the record of genesis name. More than one is a foreign volume. */
export function clusterIds(observed: Observed): string[] {
  const ids = observed.nodes.map((node) => node.status?.clusterId ?? null).filter((id) => id !== null)
  if (observed.genesis !== null) ids.push(observed.genesis.clusterId)
  return [...new Set(ids)].sort()
}

/**
 * A node whose volume is not the one that the configuration knows for its address and that has no place in the
 * configuration under another id: its volume was emptied or exchanged. The old id is never used again.
 */
export function isVolumeLost(observed: Observed, node: ObservedNode): boolean {
  if (node.status === null || node.status.volumeId === null) return false
  const member = memberAt(observed, configurationOf(observed), node.ordinal)
  return member !== undefined && member.volumeId !== node.status.volumeId
}

/** Whether a claim has held data of a node with an identity. */
export const hasHeldData = (claim: Claim): boolean => claim.metadata.labels?.[LABELS.nodeId] !== undefined

/** `wal-orders-2` of `orders` -> 2. */
export function ordinalOfClaim(cluster: string, claim: Claim): number | null {
  const match = /^(?:wal|checkpoints)-(.+)-(0|[1-9]\d{0,3})$/.exec(claim.metadata.name)
  return match?.[1] === cluster && match[2] !== undefined ? Number(match[2]) : null
}

/** A bootstrapped cluster has had a leader: the latch in the status, or what the nodes say now. */
export function isBootstrapped(observed: Observed): boolean {
  return (
    observed.cluster.status?.bootstrapped === true ||
    leaders(observed).length > 0 ||
    observed.nodes.some((node) => (node.status?.configuration?.id ?? 0) > 1)
  )
}

// ---- counts ---------------------------------------------------------------------------------------------------

export const readyNodes = (observed: Observed): number =>
  observed.nodes.filter((node) => node.pod !== null && isReady(node.pod)).length

/** Replicas below which data would be left without a pod: everything that is, or may still be, a member. */
export function leastReplicas(observed: Observed): number {
  const configuration = configurationOf(observed)
  const members = configuration
    ? [...configuration.voters, ...configuration.learners]
    : (observed.genesis?.founders ?? [])
  return members.reduce((least, member) => Math.max(least, (ordinalOfMember(observed.cluster, member) ?? -1) + 1), 0)
}

export const wantedReplicas = (observed: Observed): number => wanted(observed.cluster.spec).replicas
