/** Observations of a cluster as the operator's tests need them: a healthy cluster, and ways to change it. */
import { ANNOTATIONS, LABELS } from '../src/contract.ts'
import type { ConfigurationJson, MemberJson, NodeStatus } from '../src/contract.ts'
import { addressOf } from '../operator/observed.ts'
import type { Observed, ObservedNode } from '../operator/observed.ts'
import { inputsHash } from '../operator/resource.ts'
import type { Claim, LokiCluster, LokiClusterSpec, Pod, StatefulSet } from '../operator/resource.ts'

export const CLUSTER_ID = 'c'.repeat(32)
export const IMAGE = 'lokikv:test'

export const volumeOf = (id: number): string => id.toString(16).padStart(32, '0')

export function lokiCluster(spec: Partial<LokiClusterSpec> = {}, status: LokiCluster['status'] = {}): LokiCluster {
  return {
    metadata: { name: 'orders', namespace: 'shop', uid: 'uid-of-orders', resourceVersion: '7', generation: 1 },
    spec: { replicas: 3, storage: { wal: { size: '1Gi' }, checkpoints: { size: '1Gi' } }, ...spec },
    status,
  }
}

export function memberOf(cluster: LokiCluster, ordinal: number, id = ordinal + 1): MemberJson {
  return { id, volumeId: volumeOf(id), address: addressOf(cluster, ordinal) }
}

export function statusOfNode(
  cluster: LokiCluster,
  ordinal: number,
  configuration: ConfigurationJson | null,
  leaderId: number | null,
  more: Partial<NodeStatus> = {},
): NodeStatus {
  const id = ordinal + 1
  const leads = id === leaderId
  return {
    phase: 'member',
    version: '0.1.0',
    ready: true,
    volumeId: volumeOf(id),
    clusterId: CLUSTER_ID,
    nodeId: id,
    address: addressOf(cluster, ordinal),
    timeline: 1,
    role: leads ? 'leader' : 'follower',
    leaderId,
    configuration,
    configurationComplete: true,
    decidedIndex: '10',
    appliedIndex: '10',
    acceptedIndex: '10',
    caughtUp: true,
    reconfiguration: null,
    progress: leads
      ? (configuration?.voters ?? []).map((voter) => ({ id: voter.id, acceptedIndex: '10', connected: true }))
      : [],
    refusal: null,
    lastCheckpointIndex: '0',
    ...more,
  }
}

/** A node that has never had an identity. `volume` makes its volume id. */
export function emptyNode(cluster: LokiCluster, ordinal: number, volume = 100 + ordinal): NodeStatus {
  return statusOfNode(cluster, ordinal, null, null, {
    phase: 'waiting',
    ready: false,
    volumeId: volumeOf(volume),
    clusterId: null,
    nodeId: null,
    role: 'none',
    caughtUp: false,
  })
}

export function podOf(ordinal: number, hash: string, more: Partial<Pod['metadata']> = {}, running = true): Pod {
  return {
    metadata: {
      name: `orders-${ordinal}`,
      namespace: 'shop',
      uid: `uid-of-pod-${ordinal}`,
      resourceVersion: '1',
      labels: { [LABELS.cluster]: 'orders' },
      annotations: { [ANNOTATIONS.inputsHash]: hash },
      ...more,
    },
    status: {
      phase: running ? 'Running' : 'Pending',
      podIP: `10.0.0.${ordinal + 1}`,
      conditions: [{ type: 'Ready', status: running ? 'True' : 'False' }],
      containerStatuses: [
        { state: running ? { running: {} } : { waiting: { reason: 'ImagePullBackOff', message: 'no such image' } } },
      ],
    },
  }
}

export function statefulSetOf(replicas: number): StatefulSet {
  return {
    metadata: { name: 'orders', namespace: 'shop', uid: 'uid-of-set', resourceVersion: '5', generation: 1 },
    spec: { replicas, template: { spec: { containers: [{ image: IMAGE }] } } },
  }
}

export function claimOf(kind: 'wal' | 'checkpoints', ordinal: number, nodeId: number | null = ordinal + 1): Claim {
  return {
    metadata: {
      name: `${kind}-orders-${ordinal}`,
      namespace: 'shop',
      uid: `uid-of-${kind}-${ordinal}`,
      resourceVersion: '3',
      labels: {
        [LABELS.cluster]: 'orders',
        [LABELS.volume]: kind,
        ...(nodeId === null ? {} : { [LABELS.nodeId]: String(nodeId) }),
      },
    },
    spec: { resources: { requests: { storage: '1Gi' } } },
    status: { phase: 'Bound', capacity: { storage: '1Gi' } },
  }
}

export interface WorldOptions {
  readonly spec?: Partial<LokiClusterSpec>
  readonly status?: LokiCluster['status']
  /** Voters; the leader is one of their ids. */
  readonly voters?: number
  readonly leaderId?: number | null
  readonly configurationId?: number
  /** So many accept; absent: a majority. */
  readonly acceptQuorum?: number | undefined
  /** Pods, by default one for each voter. */
  readonly pods?: number
  /** Ordinals whose pods carry an older hash. */
  readonly old?: readonly number[]
  readonly leaderSays?: Partial<NodeStatus>
}

/** A cluster at rest, but for what the options say. */
export function world(options: WorldOptions = {}): Observed {
  const voters = options.voters ?? 3
  const cluster = lokiCluster({ replicas: voters, ...options.spec }, options.status ?? { bootstrapped: true })
  const hash = inputsHash(cluster, IMAGE)
  const members = Array.from({ length: voters }, (_, ordinal) => memberOf(cluster, ordinal))
  const { acceptQuorum } = options
  const configuration: ConfigurationJson = {
    id: options.configurationId ?? 1,
    voters: members,
    learners: [],
    ...(acceptQuorum === undefined ? {} : { acceptQuorum }),
  }
  const leaderId = options.leaderId === undefined ? 1 : options.leaderId
  const pods = options.pods ?? voters
  const nodes = Array.from({ length: Math.max(pods, cluster.spec.replicas ?? 3) }, (_, ordinal): ObservedNode => {
    const isOld = options.old?.includes(ordinal) ?? false
    const leads = ordinal + 1 === leaderId
    const status =
      ordinal < voters
        ? statusOfNode(cluster, ordinal, configuration, leaderId, leads ? options.leaderSays : {})
        : emptyNode(cluster, ordinal)
    const role = ordinal < voters ? { [LABELS.role]: leads ? 'leader' : 'follower' } : {}
    const labels = { [LABELS.cluster]: 'orders', ...role }
    const here = ordinal < pods
    return {
      ordinal,
      name: `orders-${ordinal}`,
      pod: here ? podOf(ordinal, isOld ? 'older' : hash, { labels }) : null,
      status: here ? status : null,
      unanswered: here ? null : 'it has no address yet',
      overdue: false,
      runningMilliseconds: here ? 600_000 : 0,
    }
  })
  return {
    now: '2026-01-01T00:00:00Z',
    cluster,
    image: IMAGE,
    hash,
    statefulSet: statefulSetOf(pods),
    nodes,
    claims: Array.from({ length: voters }, (_, ordinal) => [
      claimOf('wal', ordinal),
      claimOf('checkpoints', ordinal),
    ]).flat(),
    genesis: { clusterId: CLUSTER_ID, founders: members },
    former: null,
  }
}

/** The same world with one node changed. */
export function changed(
  observed: Observed,
  ordinal: number,
  change: (node: ObservedNode) => Partial<ObservedNode>,
): Observed {
  const nodes = observed.nodes.map((node) => (node.ordinal === ordinal ? { ...node, ...change(node) } : node))
  return { ...observed, nodes }
}

export const saying = (observed: Observed, ordinal: number, more: Partial<NodeStatus>): Observed =>
  changed(observed, ordinal, (node) => ({ status: node.status && { ...node.status, ...more } }))

export const silent = (observed: Observed, ordinal: number): Observed =>
  changed(observed, ordinal, () => ({ status: null, unanswered: 'no answer' }))

export const withoutPod = (observed: Observed, ordinal: number): Observed =>
  changed(observed, ordinal, () => ({ pod: null, status: null, unanswered: 'it has no address yet' }))

export const ending = (observed: Observed, ordinal: number): Observed =>
  changed(observed, ordinal, (node) => ({
    pod: node.pod && { ...node.pod, metadata: { ...node.pod.metadata, deletionTimestamp: '2026-01-01T00:01:00Z' } },
  }))
