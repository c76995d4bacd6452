/**
 * Observed + Plan -> the status of a LokiCluster. PURE: the time comes in with what was observed.
 *
 * Every condition is there from the first visit on. `bootstrapped` is a latch: once true it is never written
 * again as false, and what the nodes say can always bring it back.
 */
import type { ConfigurationJson, NodeStatus } from '../src/contract.ts'
import {
  clusterIds,
  clusterName,
  configurationOf,
  electionQuorumOf,
  isBootstrapped,
  isHealthy,
  isOutOfDate,
  isTerminating,
  isVolumeLost,
  leaderOf,
  leastReplicas,
  memberAt,
  readyNodes,
  stuckReason,
  voterOrdinals,
  wantedReplicas,
} from './observed.ts'
import type { Leader, Observed, ObservedNode } from './observed.ts'
import type { Held, Plan, Stage } from './plan.ts'
import { quantityBytes } from './quantity.ts'
import { isReady, selectorOf, wanted } from './resource.ts'
import type { Condition, HeldStatus, LokiClusterStatus, MemberStatus } from './resource.ts'

/** Something that went wrong while the plan was carried out: the API server refused an object, a node an order. */
export interface Problem {
  readonly reason: string
  readonly message: string
}

interface Verdict {
  readonly type: string
  readonly status: Condition['status']
  readonly reason: string
  readonly message: string
}

export function statusOf(observed: Observed, plan: Plan, held: readonly Held[], problems: readonly Problem[]) {
  const { cluster, genesis } = observed
  const configuration = configurationOf(observed)
  const leader = leaderOf(observed)
  const clusterId = genesis?.clusterId ?? clusterIds(observed)[0] ?? cluster.status?.clusterId
  const verdicts = [
    ready(observed, plan, leader),
    quorumAvailable(observed, leader),
    progressing(observed, plan, held, problems),
    reconfiguring(leader),
    storageResizing(observed),
    degraded(observed, problems),
  ]
  const status: LokiClusterStatus = {
    observedGeneration: cluster.metadata.generation ?? 0,
    replicas: observed.nodes.filter((node) => node.pod !== null).length,
    readyReplicas: readyNodes(observed),
    selector: selectorOf(clusterName(observed)),
    image: observed.image,
    ...(clusterId === undefined ? {} : { clusterId }),
    ...(isBootstrapped(observed) ? { bootstrapped: true } : {}),
    ...(configuration === null ? {} : { configurationId: configuration.id }),
    leader: leader?.name ?? '',
    members: observed.nodes
      .filter((node) => node.pod !== null || memberAt(observed, configuration, node.ordinal) !== undefined)
      .map((node) => member(observed, configuration, node)),
    held: held.map((hold) => since(observed, hold)),
    conditions: verdicts.map((verdict) => condition(observed, verdict)),
  }
  return status
}

function since(observed: Observed, hold: Held): HeldStatus {
  const before = observed.cluster.status?.held?.find(({ action, rule }) => action === hold.action && rule === hold.rule)
  return { ...hold, since: before?.since ?? observed.now }
}

function condition(observed: Observed, verdict: Verdict): Condition {
  const before = observed.cluster.status?.conditions?.find(({ type }) => type === verdict.type)
  return {
    type: verdict.type,
    status: verdict.status,
    observedGeneration: observed.cluster.metadata.generation ?? 0,
    lastTransitionTime: before?.status === verdict.status ? before.lastTransitionTime : observed.now,
    reason: verdict.reason,
    message: verdict.message,
  }
}

// ---- members --------------------------------------------------------------------------------------------------

function member(observed: Observed, configuration: ConfigurationJson | null, node: ObservedNode): MemberStatus {
  const known = memberAt(observed, configuration, node.ordinal)
  const id = node.status?.nodeId ?? known?.id
  const volumeId = node.status?.volumeId ?? known?.volumeId
  return {
    pod: node.name,
    ...(id === undefined ? {} : { id }),
    ...(volumeId === undefined ? {} : { volumeId }),
    role: roleOf(configuration, node.status, known?.id),
    state: stateOf(observed, node),
    ...(node.status === null ? {} : { decidedIndex: node.status.decidedIndex, version: node.status.version }),
  }
}

function roleOf(configuration: ConfigurationJson | null, status: NodeStatus | null, known: number | undefined): string {
  const id = status === null ? known : status.nodeId
  if (id !== null && configuration?.voters.some((voter) => voter.id === id)) return 'voter'
  return status?.phase === 'learner' || configuration?.learners.some((learner) => learner.id === id)
    ? 'learner'
    : 'none'
}

function stateOf(observed: Observed, node: ObservedNode): string {
  if (node.pod === null) return 'no pod'
  if (isTerminating(node)) return 'ending'
  if (isVolumeLost(observed, node)) return 'volume lost'
  const stuck = stuckReason(node)
  if (stuck !== null) return stuck.split(':', 1)[0] ?? stuck
  if (node.status === null) return 'no answer'
  if (node.status.refusal !== null) return `refused: ${node.status.refusal.code}`
  return isReady(node.pod) && node.status.phase === 'member' ? 'ready' : node.status.phase
}

// ---- conditions -----------------------------------------------------------------------------------------------

/** Serving, by all nodes that are wanted and by no others. */
function ready(observed: Observed, plan: Plan, leader: Leader | null): Verdict {
  const count = wantedReplicas(observed)
  const nodes = readyNodes(observed)
  const no = (reason: string, message: string): Verdict => ({ type: 'Ready', status: 'False', reason, message })
  if (count === 0) return no('Hibernated', 'replicas is 0; the data stays in the volumes')
  if (leader === null) return no(isBootstrapped(observed) ? 'NoLeader' : plan.stage, 'no node leads yet')
  const voters = voterOrdinals(observed, leader.status.configuration)
  if (voters.length !== count || voters.some((ordinal) => ordinal >= count)) {
    return no(plan.stage, `${voters.length} voters, ${count} are wanted`)
  }
  if (nodes < count) return no('NodesNotReady', `${nodes} of ${count} nodes are ready`)
  const unhealthy = voters.filter((ordinal) => !isHealthy(observed, leader, ordinal))
  if (unhealthy.length > 0) return no('NodesNotReady', `${unhealthy.length} of ${count} voters are catching up`)
  const old = observed.nodes.filter((node) => isOutOfDate(observed, node)).length
  if (old > 0) return no('Restarting', `${old} of ${count} nodes are yet to be restarted`)
  return {
    type: 'Ready',
    status: 'True',
    reason: 'AllNodesReady',
    message: `${count === 1 ? '1 node is' : `${count} nodes are`} ready, ${leader.name} leads`,
  }
}

function quorumAvailable(observed: Observed, leader: Leader | null): Verdict {
  const type = 'QuorumAvailable'
  const configuration = configurationOf(observed)
  if (configuration === null) {
    return { type, status: 'Unknown', reason: 'NoConfiguration', message: 'no node has told of a configuration yet' }
  }
  const total = configuration.voters.length
  const required = electionQuorumOf(configuration)
  const even = total > 1 && total % 2 === 0 ? `; ${total} voters survive no more failures than ${total - 1}` : ''
  if (leader === null) {
    const answering = observed.nodes.filter(
      (node) => node.status?.phase === 'member' || node.status?.phase === 'recovering',
    )
    const message = `no leader; ${answering.length} of ${total} voters answer and ${required} are needed: bring back their pods and volumes, nothing else restores the data`
    return { type, status: 'False', reason: answering.length < required ? 'QuorumLost' : 'NoLeader', message }
  }
  const healthy = voterOrdinals(observed, configuration).filter((ordinal) =>
    isHealthy(observed, leader, ordinal),
  ).length
  const message = `${healthy} of ${total} voters are healthy${even}`
  return { type, status: 'True', reason: healthy === total ? 'AllVotersHealthy' : 'LeaderElected', message }
}

const STAGES: Readonly<Record<Stage, string>> = {
  Deleting: 'the LokiCluster is being deleted',
  Paused: 'spec.paused is true: nothing is changed',
  Waiting: 'objects of a deleted LokiCluster of this name are still there',
  Genesis: 'empty nodes wait for their identity',
  Starting: 'the nodes are to elect a leader',
  Restarting: 'nodes are restarted one by one',
  ScalingOut: 'nodes join',
  ScalingIn: 'nodes leave',
  Hibernating: 'the nodes stop; their data stays',
  Hibernated: 'replicas is 0; the data stays in the volumes',
  Recovering: 'nodes are coming back',
  Changing: 'a change is under way',
  Settled: 'everything is as it is wanted',
}
const AT_REST: readonly Stage[] = ['Settled', 'Hibernated', 'Paused']

function progressing(observed: Observed, plan: Plan, held: readonly Held[], problems: readonly Problem[]): Verdict {
  const type = 'Progressing'
  const [problem] = problems
  if (problem) return { type, status: 'False', reason: problem.reason, message: problem.message }
  const pending = observed.cluster.metadata.generation !== observed.cluster.status?.observedGeneration
  const resting = AT_REST.includes(plan.stage) && !pending
  const [hold] = held
  const message = hold && !resting ? `${hold.action}: ${hold.message}` : STAGES[plan.stage]
  return { type, status: resting ? 'False' : 'True', reason: plan.stage, message }
}

function reconfiguring(leader: Leader | null): Verdict {
  const type = 'Reconfiguring'
  if (leader === null) return { type, status: 'Unknown', reason: 'NoLeader', message: 'only the leader knows' }
  const { reconfiguration, configuration, configurationComplete } = leader.status
  if (reconfiguration !== null) {
    const reason = reconfiguration.state === 'proposed' ? 'Proposed' : 'CatchingUp'
    return { type, status: 'True', reason, message: `the next voters are ${reconfiguration.voters.join(', ')}` }
  }
  if (configurationComplete) {
    return { type, status: 'False', reason: 'Complete', message: `configuration ${configuration.id} is complete` }
  }
  return { type, status: 'True', reason: 'Completing', message: `configuration ${configuration.id} begins` }
}

function storageResizing(observed: Observed): Verdict {
  const growing = observed.claims.filter((claim) => {
    const requested = claim.spec?.resources?.requests?.storage
    const capacity = claim.status?.capacity?.storage
    return requested !== undefined && capacity !== undefined && quantityBytes(capacity) < quantityBytes(requested)
  })
  const type = 'StorageResizing'
  if (growing.length === 0) return { type, status: 'False', reason: 'Settled', message: 'every volume has its size' }
  const list = growing.map((claim) => claim.metadata.name).join(', ')
  return { type, status: 'True', reason: 'Growing', message: `waiting for the storage of ${list}` }
}

function degraded(observed: Observed, problems: readonly Problem[]): Verdict {
  const type = 'Degraded'
  const findings = [
    ...foreignVolumes(observed),
    ...observed.nodes.flatMap((node) => findingsOf(observed, node)),
    ...problems,
  ]
  const [first] = findings
  if (!first) return { type, status: 'False', reason: 'AsExpected', message: 'nothing is wrong' }
  return { type, status: 'True', reason: first.reason, message: findings.map(({ message }) => message).join('; ') }
}

function foreignVolumes(observed: Observed): Problem[] {
  const ids = clusterIds(observed)
  const message = `volumes of different clusters answer: ${ids.join(', ')}`
  return ids.length > 1 ? [{ reason: 'ForeignVolume', message }] : []
}

function findingsOf(observed: Observed, node: ObservedNode): Problem[] {
  if (node.pod === null || isTerminating(node)) return []
  if (isVolumeLost(observed, node)) {
    const id = memberAt(observed, configurationOf(observed), node.ordinal)?.id
    const message = `${node.name} came back with another volume than that of member ${id}: it waits and never votes as ${id} again`
    return [{ reason: 'VolumeLost', message }]
  }
  if (node.status?.refusal) {
    const { message } = node.status.refusal
    return [{ reason: 'NodeRefused', message: `${node.name} takes no part: ${message}` }]
  }
  const stuck = stuckReason(node)
  const counts = node.ordinal < Math.max(wanted(observed.cluster.spec).replicas, leastReplicas(observed))
  return stuck !== null && counts ? [{ reason: 'PodStuck', message: `${node.name} does not run: ${stuck}` }] : []
}
