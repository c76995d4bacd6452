/**
 * Observed -> Plan: what is to be done now, at most one disruptive act, and what is held by which rule. PURE.
 *
 * The plan proposes each act that would bring the cluster nearer to its spec, in the order of urgency, and asks
 * the rules. It remembers nothing: the next turn begins with what is then observed, wherever this one ended.
 */
import { LABELS } from '../src/contract.ts'
import type { MemberJson } from '../src/contract.ts'
import { describe, isDisruptive } from './actions.ts'
import type { Action, Target } from './actions.ts'
import type { Genesis } from './manifests.ts'
import {
  addressOf,
  clusterIds,
  clusterName,
  configurationOf,
  isBootstrapped,
  isOutOfDate,
  isRunning,
  isTerminating,
  isHealthy,
  leaderOf,
  leastReplicas,
  memberAt,
  ordinalOfClaim,
  ordinalOfMember,
  voterOrdinals,
  wantedReplicas,
} from './observed.ts'
import type { Leader, Observed, ObservedNode } from './observed.ts'
import { quantityBytes } from './quantity.ts'
import { isReady, ownerOf, wanted } from './resource.ts'
import type { Claim, OwnerReference } from './resource.ts'
import { permits } from './rules.ts'

/** What the operator is busy with: the reason of the condition `Progressing`. */
export type Stage =
  | 'Deleting'
  | 'Paused'
  | 'Waiting'
  | 'Genesis'
  | 'Starting'
  | 'Restarting'
  | 'ScalingOut'
  | 'ScalingIn'
  | 'Hibernating'
  | 'Hibernated'
  | 'Recovering'
  | 'Changing'
  | 'Settled'

export interface Held {
  readonly action: string
  readonly rule: string
  readonly message: string
}

export interface Plan {
  readonly stage: Stage
  /** Whether the cluster's objects are to be written before the acts. */
  readonly apply: boolean
  /** Done in this order, each on its own. None of them is disruptive. */
  readonly steps: readonly Action[]
  /** Done last, after it has been planned once more from fresh observations. */
  readonly disruption: Action | null
  readonly held: readonly Held[]
}

export function plan(observed: Observed): Plan {
  const nothing = { apply: false, steps: [], disruption: null }
  if (observed.cluster.metadata.deletionTimestamp !== undefined) return { ...nothing, stage: 'Deleting', held: [] }
  if (observed.former !== null) {
    const message = `${observed.former} of the deleted LokiCluster of this name is still there`
    return { ...nothing, stage: 'Waiting', held: [{ action: 'start', rule: 'former-cluster-gone', message }] }
  }
  if (wanted(observed.cluster.spec).paused) {
    const message = 'spec.paused is true'
    return { ...nothing, stage: 'Paused', held: [{ action: 'any change', rule: 'not-paused', message }] }
  }
  const { steps, disruption, held } = choose(observed, proposals(observed))
  return { stage: stageOf(observed, disruption !== null || held.length > 0), apply: true, steps, disruption, held }
}

/** Takes every permitted step and the first permitted disruption; notes why the others are not. */
function choose(observed: Observed, proposed: readonly Action[]): Pick<Plan, 'steps' | 'disruption' | 'held'> {
  const steps: Action[] = []
  const held: Held[] = []
  let disruption: Action | null = null
  for (const action of proposed) {
    const refusal = permits(action, observed)
    if (refusal !== null) held.push({ action: describe(action), ...refusal })
    else if (!isDisruptive(action)) steps.push(action)
    else disruption ??= action
  }
  return { steps, disruption, held }
}

/** All that would bring the cluster nearer to its spec, the most urgent first. */
export function proposals(observed: Observed): Action[] {
  const leader = leaderOf(observed)
  return [
    ...replacements(observed),
    ...genesis(observed),
    ...replicas(observed),
    ...restarts(observed, leader),
    ...(leader === null ? [] : membership(observed, leader)),
    ...claims(observed, leader),
    ...labels(observed, leader),
  ]
}

export function targetOf(node: ObservedNode): Target {
  return { pod: node.name, ordinal: node.ordinal, uid: node.pod?.metadata.uid ?? '' }
}

// ---- pods that take no part -----------------------------------------------------------------------------------

/** Out of date, and not running or not part of anything: the way to good inputs must never be blocked. */
function replacements(observed: Observed): Action[] {
  return observed.nodes
    .filter((node) => isOutOfDate(observed, node) && !isTerminating(node) && takesNoPart(node))
    .map((node) => ({
      kind: 'replace',
      target: targetOf(node),
      reason: node.status?.refusal?.code ?? (isRunning(node) ? 'it waits without an identity' : 'it does not run'),
    }))
}

const takesNoPart = (node: ObservedNode): boolean =>
  !isRunning(node) || node.status?.phase === 'waiting' || node.status?.phase === 'refused'

// ---- genesis --------------------------------------------------------------------------------------------------

function genesis(observed: Observed): Action[] {
  if (observed.genesis === null) {
    const adopted = adoption(observed)
    if (adopted !== null) return [{ kind: 'record-genesis', genesis: adopted, adopted: true }]
    if (wantedReplicas(observed) === 0 || clusterIds(observed).length > 0) return []
    return [{ kind: 'record-genesis', genesis: { clusterId: '', founders: founders(observed) }, adopted: false }]
  }
  const record = observed.genesis
  return observed.nodes.flatMap((node): Action[] => {
    const self = record.founders.find((founder) => founder.address === addressOf(observed.cluster, node.ordinal))
    const waits = node.status?.phase === 'waiting' && !isTerminating(node) && node.status.volumeId === self?.volumeId
    return waits && self ? [{ kind: 'seed', target: targetOf(node), genesis: record, self: self.id }] : []
  })
}

/** The founders as they answer; the rule `all-founders-answer` holds the act until all do. */
function founders(observed: Observed): MemberJson[] {
  return observed.nodes.slice(0, wantedReplicas(observed)).flatMap((node) => {
    const volumeId = node.status?.volumeId ?? null
    if (volumeId === null) return []
    return [{ id: node.ordinal + 1, volumeId, address: addressOf(observed.cluster, node.ordinal) }]
  })
}

/** The record as the volumes tell it: their cluster, and its founders where that is still their configuration. */
function adoption(observed: Observed): Genesis | null {
  const [clusterId, ...others] = clusterIds(observed)
  const configuration = configurationOf(observed)
  if (clusterId === undefined || others.length > 0 || configuration === null) return null
  return { clusterId, founders: configuration.id === 1 ? configuration.voters : [] }
}

// ---- replicas of the StatefulSet ------------------------------------------------------------------------------

/** Pods for all that is or may be a member, and for all that is wanted; fewer only when the rules agree. */
function replicas(observed: Observed): Action[] {
  const stored = observed.statefulSet
  if (stored === null) return []
  const from = stored.spec.replicas ?? 1
  const hibernate = wantedReplicas(observed) === 0
  const least = leastReplicas(observed)
  const to = hibernate ? 0 : Math.max(targetReplicas(observed), least)
  if (from === to) return []
  const { name, uid, resourceVersion } = stored.metadata
  return [{ kind: 'set-replicas', from, to, statefulSet: { name, uid, resourceVersion }, hibernate }]
}

/** Between the record of genesis and the first leader the founders are what is wanted. */
function targetReplicas(observed: Observed): number {
  const founders = observed.genesis?.founders.length ?? 0
  return founders > 0 && !isBootstrapped(observed) ? founders : wantedReplicas(observed)
}

// ---- restarts -------------------------------------------------------------------------------------------------

/** The next pod to restart: non-voters, voters that are not well, followers from the highest ordinal down, the leader last. */
function restarts(observed: Observed, leader: Leader | null): Action[] {
  if (wantedReplicas(observed) === 0) return []
  const voters = voterOrdinals(observed, configurationOf(observed))
  const rank = (node: ObservedNode): number => {
    if (!voters.includes(node.ordinal)) return 0
    if (leader === null || !isHealthy(observed, leader, node.ordinal)) return 1
    return node.ordinal === leader.ordinal ? 3 : 2
  }
  const [next] = observed.nodes
    .filter((node) => isOutOfDate(observed, node) && !isTerminating(node) && !takesNoPart(node))
    .sort((a, b) => rank(a) - rank(b) || b.ordinal - a.ordinal)
  if (!next?.pod) return []
  const restart: Action = { kind: 'restart', target: targetOf(next), ready: isReady(next.pod) }
  if (leader === null || next.ordinal !== leader.ordinal) return [restart]
  if (leader.status.configuration.voters.length === 1) return [restart]
  return [successor(observed, leader, (node) => !isOutOfDate(observed, node)) ?? restart]
}

/** Hands leadership to the healthy voter that is furthest, the lowest ordinal among equals. */
function successor(observed: Observed, leader: Leader, fits: (node: ObservedNode) => boolean): Action | null {
  const configuration = leader.status.configuration
  const candidates = voterOrdinals(observed, configuration)
    .map((ordinal) => observed.nodes[ordinal])
    .filter((node) => node !== undefined)
    .filter((node) => node.ordinal !== leader.ordinal && fits(node) && isHealthy(observed, leader, node.ordinal))
    .sort((a, b) => Number(acceptedBy(b)) - Number(acceptedBy(a)) || a.ordinal - b.ordinal)
  const heir = candidates[0]
  const member = heir && memberAt(observed, configuration, heir.ordinal)
  if (!heir || !member) return null
  return {
    kind: 'transfer',
    leader: targetOf(leader),
    to: targetOf(heir),
    toId: member.id,
    expectedConfigurationId: configuration.id,
  }
}

const acceptedBy = (node: ObservedNode): string => node.status?.acceptedIndex ?? '0'

// ---- membership -----------------------------------------------------------------------------------------------

function membership(observed: Observed, leader: Leader): Action[] {
  const count = wantedReplicas(observed)
  if (count === 0) return []
  const change = leader.status.reconfiguration
  if (change?.state === 'catching-up' && change.voters.some((id) => isUnwanted(observed, id))) {
    return [{ kind: 'withdraw', leader: targetOf(leader) }]
  }
  const places = Array.from({ length: count }, (_, ordinal) => place(observed, leader, ordinal))
  const joins = places.flatMap(({ joins: action }) => action)
  const voters = places.flatMap(({ member }) => (member ? [member] : []))
  const missing = places.flatMap(({ missing: pod }) => (pod === null ? [] : [pod]))
  const present = voterOrdinals(observed, leader.status.configuration)
  const same = present.length === count && present.every((ordinal) => ordinal < count)
  const unchanged = voters.every((member) => leader.status.configuration.voters.some((voter) => voter.id === member.id))
  if (same && (unchanged || missing.length > 0)) return joins
  const leaves = leader.ordinal >= count
  const heir = leaves ? successor(observed, leader, (node) => node.ordinal < count) : null
  if (heir) return [...joins, heir]
  return [
    ...joins,
    {
      kind: 'reconfigure',
      leader: targetOf(leader),
      leaderId: leader.status.nodeId ?? 0,
      expectedConfigurationId: leader.status.configuration.id,
      voters,
      missing,
    },
  ]
}

interface Place {
  readonly member: MemberJson | null
  readonly missing: string | null
  readonly joins: readonly Action[]
}

/**
 * Who is to vote in the place of an ordinal, or what has to happen before someone can. A member whose node does
 * not answer, or came back as another, keeps its place: what repairs it must not hold up the scaling of others.
 */
function place(observed: Observed, leader: Leader, ordinal: number): Place {
  const node = observed.nodes[ordinal]
  const known = memberAt(observed, leader.status.configuration, ordinal) ?? null
  const kept = { member: known, missing: known ? null : `${clusterName(observed)}-${ordinal}`, joins: [] }
  const status = node?.status ?? null
  if (!node?.pod || isTerminating(node) || status === null || status.volumeId === null) return kept
  if (known?.volumeId === status.volumeId) return kept
  if (status.phase === 'waiting') {
    return awaitsSeed(observed, node) ? kept : { ...kept, joins: [join(observed, leader, node, status.volumeId)] }
  }
  if (status.nodeId === null || status.clusterId !== leader.status.clusterId) return kept
  const { nodeId, volumeId } = status
  if (status.phase === 'removed')
    return { ...kept, joins: [{ kind: 'reset', target: targetOf(node), nodeId, volumeId }] }
  if (status.phase === 'refused') return kept
  return { member: { id: nodeId, volumeId, address: addressOf(observed.cluster, ordinal) }, missing: null, joins: [] }
}

function awaitsSeed(observed: Observed, node: ObservedNode): boolean {
  return observed.genesis?.founders.some((founder) => founder.volumeId === node.status?.volumeId) ?? false
}

function join(observed: Observed, leader: Leader, node: ObservedNode, volumeId: string): Action {
  return {
    kind: 'join',
    target: targetOf(node),
    leader: targetOf(leader),
    clusterId: leader.status.clusterId ?? '',
    volumeId,
    address: addressOf(observed.cluster, node.ordinal),
    configuration: leader.status.configuration,
  }
}

/** Whether an id is known to be that of a node that is not wanted any more. */
function isUnwanted(observed: Observed, id: number): boolean {
  const count = wantedReplicas(observed)
  const answers = observed.nodes.some((node) => node.ordinal >= count && node.status?.nodeId === id)
  const configuration = configurationOf(observed)
  const member = configuration?.voters.find((voter) => voter.id === id)
  const ordinal = member ? ordinalOfMember(observed.cluster, member) : null
  return answers || (ordinal !== null && ordinal >= count)
}

// ---- claims ---------------------------------------------------------------------------------------------------

function claims(observed: Observed, leader: Leader | null): Action[] {
  return observed.claims.flatMap((claim) => {
    const ordinal = ordinalOfClaim(clusterName(observed), claim)
    if (ordinal === null || claim.metadata.deletionTimestamp !== undefined) return []
    return [
      ...growth(observed, claim),
      ...marks(observed, claim, ordinal),
      ...(leader === null ? [] : giveUp(observed, claim, ordinal)),
    ]
  })
}

function growth(observed: Observed, claim: Claim): Action[] {
  const { walSize, checkpointsSize } = wanted(observed.cluster.spec)
  const size = claim.metadata.labels?.[LABELS.volume] === 'wal' ? walSize : checkpointsSize
  const requested = claim.spec?.resources?.requests?.storage
  if (requested === undefined || quantityBytes(size) <= quantityBytes(requested)) return []
  return [{ kind: 'grow-claim', claim: referenceOf(claim), size }]
}

/** The id of the node that a claim carries, and whether it goes with the LokiCluster. */
function marks(observed: Observed, claim: Claim, ordinal: number): Action[] {
  const id = observed.nodes[ordinal]?.status?.nodeId ?? null
  const labels: Record<string, string> = {}
  if (id !== null && claim.metadata.labels?.[LABELS.nodeId] !== String(id)) labels[LABELS.nodeId] = String(id)
  const references = claim.metadata.ownerReferences ?? []
  const owners = ownersOf(observed, references)
  const sameOwners = owners.map(({ uid }) => uid).join() === references.map(({ uid }) => uid).join()
  if (Object.keys(labels).length === 0 && sameOwners) return []
  return [{ kind: 'label-claim', claim: referenceOf(claim), labels, ownerReferences: owners }]
}

/** The LokiCluster owns its claims where they are to be deleted with it, and only there. */
function ownersOf(observed: Observed, references: readonly OwnerReference[]): OwnerReference[] {
  const { controller: _, ...owner } = ownerOf(observed.cluster)
  const others = references.filter((reference) => reference.kind !== owner.kind)
  return wanted(observed.cluster.spec).whenDeleted === 'Delete' ? [...others, owner] : others
}

/** A volume of a node that was scaled in. Hibernation gives up nothing. */
function giveUp(observed: Observed, claim: Claim, ordinal: number): Action[] {
  const { whenScaled, replicas: count } = wanted(observed.cluster.spec)
  const stored = observed.statefulSet?.spec.replicas ?? count
  if (whenScaled !== 'Delete' || count === 0 || ordinal < Math.max(count, stored)) return []
  return [{ kind: 'delete-claim', claim: referenceOf(claim), ordinal }]
}

function referenceOf(claim: Claim) {
  const { name, uid, resourceVersion } = claim.metadata
  return { name, uid, resourceVersion }
}

// ---- role labels ----------------------------------------------------------------------------------------------

/** First the new leader gets its label, then the old one loses it: the leader Service is never empty. */
function labels(observed: Observed, leader: Leader | null): Action[] {
  return observed.nodes
    .map((node) => ({ node, role: roleOf(node, leader), old: node.pod?.metadata.labels?.[LABELS.role] ?? null }))
    .filter(({ node, role, old }) => node.pod !== null && !isTerminating(node) && role !== old)
    .filter(({ old }) => old !== 'leader' || leader !== null)
    .sort((a, b) => Number(b.role === 'leader') - Number(a.role === 'leader'))
    .map(({ node, role }) => ({ kind: 'label-pod', target: targetOf(node), role }))
}

function roleOf(node: ObservedNode, leader: Leader | null): string | null {
  if (node.ordinal === leader?.ordinal) return 'leader'
  const old = node.pod?.metadata.labels?.[LABELS.role] ?? null
  if (node.status === null) return old === 'leader' && leader !== null ? 'follower' : old
  if (node.status.phase === 'member' || node.status.phase === 'recovering') return 'follower'
  return node.status.phase === 'learner' ? 'learner' : null
}

// ---- stage ----------------------------------------------------------------------------------------------------

function stageOf(observed: Observed, changing: boolean): Stage {
  const count = wantedReplicas(observed)
  const stored = observed.statefulSet?.spec.replicas ?? 0
  if (count === 0) return observed.nodes.some((node) => node.pod) || stored > 0 ? 'Hibernating' : 'Hibernated'
  if (observed.genesis === null) return 'Genesis'
  const leader = leaderOf(observed)
  if (leader === null) return 'Starting'
  if (observed.nodes.some((node) => isOutOfDate(observed, node))) return 'Restarting'
  const voters = voterOrdinals(observed, leader.status.configuration)
  if (voters.some((ordinal) => ordinal >= count) || stored > count) return 'ScalingIn'
  if (voters.length < count) return 'ScalingOut'
  const returning = observed.nodes.some((node) => node.ordinal < count && !isHealthy(observed, leader, node.ordinal))
  return returning ? 'Recovering' : changing ? 'Changing' : 'Settled'
}
