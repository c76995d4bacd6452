/**
 * When an act is permitted: named rules, each a sentence that refuses or nothing. PURE.
 *
 * A refusal appears in `status.held` under the name of the rule. Rules look at what is observed and at nothing
 * else; the plan proposes, the rules dispose, and a property test checks that no act that the rules let through
 * leaves a majority of voters without healthy nodes.
 */
import type { ConfigurationJson } from '../src/contract.ts'
import type { Action, ActionKind } from './actions.ts'
import {
  clusterIds,
  clusterName,
  configurationOf,
  electionQuorumOf,
  hasHeldData,
  isBootstrapped,
  isHealthy,
  isOutOfDate,
  isRunning,
  isSettled,
  isTerminating,
  isVolumeLost,
  leaderOf,
  leaders,
  leastReplicas,
  majorityOf,
  memberAt,
  ordinalOfMember,
  stuckReason,
  UNSERVING_MILLISECONDS,
  voterOrdinals,
  wantedReplicas,
} from './observed.ts'
import type { Leader, Observed, ObservedNode } from './observed.ts'
import { isReady } from './resource.ts'

export interface Refusal {
  readonly rule: string
  readonly message: string
}

type Of<Kind extends ActionKind> = Extract<Action, { kind: Kind }>

interface Rule<Kind extends ActionKind = ActionKind> {
  readonly name: string
  readonly kinds: readonly Kind[]
  readonly refuses: (action: Of<Kind>, observed: Observed) => string | null
}

/** Keeps the type of the action that belongs to the kinds of a rule. */
const rule = <Kind extends ActionKind>(
  name: string,
  kinds: readonly Kind[],
  refuses: (action: Of<Kind>, observed: Observed) => string | null,
): Rule => ({ name, kinds, refuses: refuses as Rule['refuses'] })

/** The first rule that refuses, or null: then the act may be done now. */
export function permits(action: Action, observed: Observed): Refusal | null {
  for (const { name, kinds, refuses } of RULES) {
    const message = kinds.includes(action.kind) ? refuses(action, observed) : null
    if (message !== null) return { rule: name, message }
  }
  return null
}

// ---- genesis --------------------------------------------------------------------------------------------------

const oneClusterId = rule(
  'one-cluster-id',
  ['record-genesis', 'seed', 'join', 'reset', 'reconfigure', 'restart', 'transfer', 'set-replicas', 'delete-claim'],
  (_action, observed) => {
    const ids = clusterIds(observed)
    return ids.length > 1
      ? `volumes of different clusters answer (${ids.join(', ')}); put the right volumes under the claims, nothing is changed until then`
      : null
  },
)

const allFoundersAnswer = rule('all-founders-answer', ['record-genesis'], (action, observed) => {
  if (action.adopted) return null
  const count = wantedReplicas(observed)
  const silent = Array.from({ length: count }, (_, ordinal) => observed.nodes[ordinal])
    .map((node, ordinal) => (node?.status?.phase === 'waiting' ? null : whyNotWaiting(observed, node, ordinal)))
    .filter((reason) => reason !== null)
  return silent.length > 0 ? `waiting for ${silent.join('; ')}` : null
})

function whyNotWaiting(observed: Observed, node: ObservedNode | undefined, ordinal: number): string {
  const name = node?.name ?? `${clusterName(observed)}-${ordinal}`
  if (!node?.pod) return `${name}: no pod yet`
  const reason = node.status?.refusal?.message ?? stuckReason(node) ?? node.unanswered
  return `${name}: ${reason ?? node.status?.phase ?? 'starting'}`
}

/** A volume that a cluster has used and that does not say so was emptied, or its pod is not wanted: not ours to guess. */
const volumesAreNew = rule('volumes-are-new', ['record-genesis'], (action, observed) => {
  const used = action.adopted ? [] : observed.claims.filter(hasHeldData).map((claim) => claim.metadata.name)
  return used.length > 0
    ? `${used.join(', ')} held data of an earlier cluster: raise replicas so that their pods start, or delete these claims to begin anew`
    : null
})

// ---- leader and membership ------------------------------------------------------------------------------------

const exactlyOneLeader = rule(
  'exactly-one-leader',
  ['join', 'reconfigure', 'withdraw', 'transfer', 'restart', 'delete-claim', 'reset', 'set-replicas'],
  (action, observed) => {
    if (action.kind === 'set-replicas' && (raises(action) || action.hibernate || !hasData(observed))) return null
    if (action.kind === 'restart' && mayRestartWithoutLeader(action, observed)) return null
    const count = leaders(observed).length
    if (count === 1) return null
    return count === 0 ? 'no node leads at the moment' : 'leadership is changing hands'
  },
)

const raises = (action: Of<'set-replicas'>): boolean => action.to > action.from

/** Whether genesis, or a cluster before it, has put data under this cluster, as far as can be seen. */
function hasData(observed: Observed): boolean {
  return (
    observed.genesis !== null ||
    isBootstrapped(observed) ||
    clusterIds(observed).length > 0 ||
    observed.claims.some(hasHeldData)
  )
}

/**
 * Other inputs are tried, one node at a time, on a cluster that does not come to a leader under the present ones:
 * a setting that keeps nodes from electing must not keep its own correction out. All others must answer.
 */
function mayRestartWithoutLeader(action: Of<'restart'>, observed: Observed): boolean {
  const node = observed.nodes[action.target.ordinal]
  if (!node?.pod || isReady(node.pod) || node.runningMilliseconds < UNSERVING_MILLISECONDS) return false
  if (leaders(observed).length > 0) return false
  return observed.nodes.every(
    (other) => other === node || (other.pod !== null && !isTerminating(other) && other.status !== null),
  )
}

const notReconfiguring = rule(
  'not-reconfiguring',
  ['join', 'reconfigure', 'transfer', 'restart', 'delete-claim', 'reset', 'set-replicas'],
  (action, observed) => {
    const leader = leaderOf(observed)
    if (leader === null || (action.kind === 'set-replicas' && raises(action))) return null
    const change = leader.status.reconfiguration
    if (change) return `a change to voters ${change.voters.join(', ')} is ${change.state}`
    return isSettled(leader) ? null : `configuration ${leader.status.configuration.id} is not complete yet`
  },
)

/** Between a restart and its end nothing else is taken away: not gone, not ending, not still coming back. */
const oneAtATime = rule('one-at-a-time', ['restart', 'transfer', 'reconfigure'], (action, observed) => {
  const leader = leaderOf(observed)
  if (leader === null) return null
  const stays = stayingOrdinals(action, observed, leader)
  for (const ordinal of voterOrdinals(observed, leader.status.configuration)) {
    const node = observed.nodes[ordinal]
    if (!stays(ordinal) || (action.kind === 'restart' && ordinal === action.target.ordinal)) continue
    if (!node?.pod) return `${clusterName(observed)}-${ordinal} is not there`
    if (isTerminating(node) && !node.overdue) return `${node.name} is ending`
    const returning = action.kind !== 'reconfigure' && !isOutOfDate(observed, node)
    if (returning && !isTerminating(node) && !isVolumeLost(observed, node) && !isHealthy(observed, leader, ordinal)) {
      return `${node.name} has not rejoined yet (${node.status?.phase ?? node.unanswered ?? 'no answer'})`
    }
  }
  return null
})

/** Of an act that takes nodes out for good, those that are taken out do not count. */
function stayingOrdinals(action: Action, observed: Observed, leader: Leader): (ordinal: number) => boolean {
  if (action.kind !== 'reconfigure') return () => true
  const next = action.voters.map((member) => ordinalOfMember(observed.cluster, member))
  const knows = (ordinal: number) => memberAt(observed, leader.status.configuration, ordinal) !== undefined
  return (ordinal) => next.includes(ordinal) && knows(ordinal)
}

// ---- majorities -----------------------------------------------------------------------------------------------

/** Healthy voters of a configuration, without one ordinal. */
function healthyVoters(observed: Observed, leader: Leader, without: number | null): number {
  return voterOrdinals(observed, leader.status.configuration).filter(
    (ordinal) => ordinal !== without && isHealthy(observed, leader, ordinal),
  ).length
}

/** With one or two voters a restart is a pause, whatever is done; all others must be well before it. */
const requiredOfOthers = (configuration: ConfigurationJson): number =>
  Math.min(configuration.voters.length - 1, electionQuorumOf(configuration))

const majorityOfOthersCaughtUp = rule('majority-of-others-caught-up', ['restart'], (action, observed) => {
  const leader = leaderOf(observed)
  if (leader === null) return null
  const configuration = leader.status.configuration
  if (!voterOrdinals(observed, configuration).includes(action.target.ordinal)) return null
  const required = requiredOfOthers(configuration)
  const others = healthyVoters(observed, leader, action.target.ordinal)
  return others < required ? `${others} of the other voters are caught up, ${required} are needed` : null
})

const majorityCaughtUp = rule('majority-caught-up', ['reconfigure', 'transfer'], (action, observed) => {
  const leader = leaderOf(observed)
  if (leader === null) return null
  const { configuration } = leader.status
  // Who is handed over to is elected. A change of members is decided by the leader there is, and may be the way out
  // for one that has lost more than an election bears.
  const required =
    action.kind === 'transfer' ? electionQuorumOf(configuration) : majorityOf(configuration.voters.length)
  const healthy = healthyVoters(observed, leader, null)
  if (healthy < required) return `${healthy} voters are caught up, ${required} are needed`
  if (action.kind === 'transfer') return null
  const next = action.voters.filter((member) => takesPart(observed, leader, member.address)).length
  const requiredNext = electionQuorumOf({ ...configuration, voters: action.voters })
  return next < requiredNext ? `${next} of the new voters answer, ${requiredNext} are needed` : null
})

function takesPart(observed: Observed, leader: Leader, address: string): boolean {
  const node = observed.nodes.find((one) => one.status?.address === address)
  if (!node || isTerminating(node)) return false
  return node.status?.phase === 'learner' || isHealthy(observed, leader, node.ordinal)
}

// ---- order ----------------------------------------------------------------------------------------------------

const leaderLast = rule('leader-last', ['restart'], (action, observed) => {
  const leader = leaderOf(observed)
  if (leader?.ordinal !== action.target.ordinal || leader.status.configuration.voters.length === 1) return null
  return 'it leads, and no voter on the new inputs has caught up to take over'
})

const targetCaughtUp = rule('target-caught-up', ['transfer'], (action, observed) => {
  const leader = leaderOf(observed)
  if (leader === null || isHealthy(observed, leader, action.to.ordinal)) return null
  return `${action.to.pod} has not caught up`
})

const leaderStays = rule('leader-stays', ['reconfigure'], (action, observed) => {
  const leader = leaderOf(observed)
  if (leader === null || action.voters.some((member) => member.id === leader.status.nodeId)) return null
  return `${leader.name} leads and would leave, and no voter that stays has caught up to take over`
})

const allNewNodesJoined = rule('all-new-nodes-joined', ['reconfigure'], (action) =>
  action.missing.length > 0 ? `waiting for ${action.missing.join(', ')} to join` : null,
)

const noScalingDuringARestart = rule(
  'no-scaling-during-a-restart',
  ['reconfigure', 'set-replicas'],
  (action, observed) => {
    // Pods of data that is there already are started whatever else goes on.
    if (action.kind === 'set-replicas' && (action.hibernate || action.to <= leastReplicas(observed))) return null
    if (action.kind === 'set-replicas' && (raises(action) ? !isBootstrapped(observed) : !hasData(observed))) return null
    const old = observed.nodes.filter((node) => isOutOfDate(observed, node) && isMember(observed, node))
    return old.length > 0 ? `${old.map((node) => node.name).join(', ')} must be restarted first` : null
  },
)

const isMember = (observed: Observed, node: ObservedNode): boolean =>
  memberAt(observed, configurationOf(observed), node.ordinal) !== undefined

// ---- what is given up -----------------------------------------------------------------------------------------

const leftTheConfiguration = rule(
  'left-the-configuration',
  ['set-replicas', 'delete-claim', 'reset'],
  (action, observed) => {
    if (action.kind === 'set-replicas' && (action.hibernate || raises(action))) return null
    const configuration = configurationOf(observed)
    const from = action.kind === 'set-replicas' ? action.to : ordinalOfAction(action)
    const to = action.kind === 'set-replicas' ? Infinity : from
    const still = membersBetween(observed, configuration, from, to)
    return still.length > 0 ? `still a member: ${still.join(', ')}` : null
  },
)

const ordinalOfAction = (action: Of<'delete-claim' | 'reset'>): number =>
  action.kind === 'reset' ? action.target.ordinal : action.ordinal

function membersBetween(observed: Observed, held: ConfigurationJson | null, from: number, to: number): string[] {
  return [...(held?.voters ?? []), ...(held?.learners ?? [])]
    .map((member) => ordinalOfMember(observed.cluster, member))
    .filter((ordinal) => ordinal !== null && ordinal >= from && ordinal <= to)
    .map((ordinal) => `${clusterName(observed)}-${ordinal}`)
}

/** A node that leaves goes on serving its part of the log until it has heard that it is not needed any more. */
const leaversKnow = rule('leavers-know', ['set-replicas'], (action, observed) => {
  if (action.hibernate || raises(action)) return null
  const unaware = observed.nodes.filter((node) => node.ordinal >= action.to && node.status?.phase === 'member')
  return unaware.length > 0 ? `${unaware.map((node) => node.name).join(', ')} still takes part` : null
})

const podIsGone = rule('pod-is-gone', ['delete-claim'], (action, observed) => {
  const node = observed.nodes[action.ordinal]
  return node?.pod ? `${node.name} still uses it` : null
})

const volumeIsKnown = rule('volume-lost', ['join'], (action, observed) => {
  const node = observed.nodes[action.target.ordinal]
  const member = memberAt(observed, configurationOf(observed), action.target.ordinal)
  if (!node || !member || !isVolumeLost(observed, node)) return null
  return `${node.name} came back with an empty volume and never votes as ${member.id} again; docs/OPERATIONS.md, "When a volume is lost", says how to replace it`
})

const takesNoPart = rule('takes-no-part', ['replace'], (action, observed) => {
  const node = observed.nodes[action.target.ordinal]
  if (!node?.pod || node.pod.metadata.uid !== action.target.uid) return 'the pod has changed'
  if (isTerminating(node)) return 'it is ending'
  return isRunning(node) && hasIdentity(node) ? 'it runs and may be needed' : null
})

/** An answer that is missing may be that of a member. */
const hasIdentity = (node: ObservedNode): boolean =>
  node.status === null || (node.status.phase !== 'waiting' && node.status.phase !== 'refused')

const RULES: readonly Rule[] = [
  oneClusterId,
  allFoundersAnswer,
  volumesAreNew,
  exactlyOneLeader,
  notReconfiguring,
  noScalingDuringARestart,
  leaderStays,
  allNewNodesJoined,
  leaderLast,
  targetCaughtUp,
  oneAtATime,
  majorityOfOthersCaughtUp,
  majorityCaughtUp,
  leftTheConfiguration,
  leaversKnow,
  podIsGone,
  volumeIsKnown,
  takesNoPart,
]

/** For tests and docs: every name that can appear in `status.held`, but those that the API server gives. */
export const RULE_NAMES: readonly string[] = RULES.map(({ name }) => name)
