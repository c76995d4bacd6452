/**
 * LokiCluster and the few Kubernetes objects that the operator reads, as plain data: types, defaults, the hash
 * of the inputs that a pod is made from. PURE.
 *
 * The schema in crds/ refuses what is ill-formed, so nothing is validated here again; what the schema fills in
 * is filled in here too, so that an object that never met the schema means the same.
 */
import { ANNOTATIONS, API_VERSION, GROUP, KIND, LABELS } from '../src/contract.ts'

export interface OwnerReference {
  readonly apiVersion: string
  readonly kind: string
  readonly name: string
  readonly uid: string
  readonly controller?: boolean
}

export interface Metadata {
  readonly name: string
  readonly namespace: string
  readonly uid: string
  readonly resourceVersion: string
  readonly generation?: number
  readonly creationTimestamp?: string
  readonly deletionTimestamp?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly ownerReferences?: readonly OwnerReference[]
}

/** Any object of the API, as far as it is written by the operator. */
export interface KubeObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: Partial<Metadata> & { readonly name: string; readonly namespace: string }
  readonly [field: string]: unknown
}

// ---- LokiCluster ----------------------------------------------------------------------------------------------

export type RetentionPolicy = 'Retain' | 'Delete'

export interface VolumeSpec {
  readonly size: string
  readonly storageClassName?: string
}

export interface PodSpec {
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly nodeSelector?: Readonly<Record<string, string>>
  readonly tolerations?: readonly unknown[]
  readonly affinity?: Readonly<Record<string, unknown>>
  readonly priorityClassName?: string
  readonly imagePullSecrets?: readonly { readonly name: string }[]
  readonly env?: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: unknown }[]
  readonly securityContext?: Readonly<Record<string, unknown>>
}

export interface LokiClusterSpec {
  readonly replicas?: number
  readonly image?: string
  readonly storage: {
    readonly wal: VolumeSpec
    readonly checkpoints: VolumeSpec
    readonly retention?: { readonly whenScaled?: RetentionPolicy; readonly whenDeleted?: RetentionPolicy }
  }
  readonly resources?: { readonly requests?: Record<string, unknown>; readonly limits?: Record<string, unknown> }
  readonly config?: Readonly<Record<string, number | string>>
  /** The Secret that has the keys of the encryption at rest. */
  readonly encryption?: { readonly secretName: string }
  readonly placement?: { readonly spread?: 'Preferred' | 'Required'; readonly topologyKey?: string }
  readonly service?: { readonly type?: string; readonly annotations?: Readonly<Record<string, string>> }
  readonly pod?: PodSpec
  readonly paused?: boolean
}

export interface Condition {
  readonly type: string
  readonly status: 'True' | 'False' | 'Unknown'
  readonly observedGeneration: number
  readonly lastTransitionTime: string
  readonly reason: string
  readonly message: string
}

export interface MemberStatus {
  readonly pod: string
  readonly id?: number
  readonly volumeId?: string
  readonly role: string
  readonly state: string
  readonly decidedIndex?: string
  readonly version?: string
}

export interface HeldStatus {
  readonly action: string
  readonly rule: string
  readonly message: string
  readonly since: string
}

export interface LokiClusterStatus {
  readonly observedGeneration?: number
  readonly replicas?: number
  readonly readyReplicas?: number
  readonly selector?: string
  readonly image?: string
  readonly clusterId?: string
  readonly bootstrapped?: boolean
  readonly configurationId?: number
  readonly leader?: string
  readonly members?: readonly MemberStatus[]
  readonly held?: readonly HeldStatus[]
  readonly conditions?: readonly Condition[]
}

export interface LokiCluster {
  readonly metadata: Metadata
  readonly spec: LokiClusterSpec
  readonly status?: LokiClusterStatus
}

/** The spec with every default filled in. */
export interface Wanted {
  readonly replicas: number
  readonly walSize: string
  readonly checkpointsSize: string
  readonly whenScaled: RetentionPolicy
  readonly whenDeleted: RetentionPolicy
  readonly spread: 'Preferred' | 'Required'
  readonly topologyKey: string
  readonly serviceType: string
  readonly paused: boolean
}

export function wanted(spec: LokiClusterSpec): Wanted {
  return {
    replicas: spec.replicas ?? 3,
    walSize: spec.storage.wal.size,
    checkpointsSize: spec.storage.checkpoints.size,
    whenScaled: spec.storage.retention?.whenScaled ?? 'Retain',
    whenDeleted: spec.storage.retention?.whenDeleted ?? 'Retain',
    spread: spec.placement?.spread ?? 'Preferred',
    topologyKey: spec.placement?.topologyKey ?? 'topology.kubernetes.io/zone',
    serviceType: spec.service?.type ?? 'ClusterIP',
    paused: spec.paused ?? false,
  }
}

/** `namespace/name`: the key of work queue, logs and metrics. */
export const keyOf = (metadata: { readonly namespace: string; readonly name: string }): string =>
  `${metadata.namespace}/${metadata.name}`

/** The string form that the scale subresource gives to autoscalers. */
export const selectorOf = (cluster: string): string => `${LABELS.cluster}=${cluster}`

export function ownerOf(cluster: LokiCluster): OwnerReference {
  return {
    apiVersion: `${GROUP}/${API_VERSION}`,
    kind: KIND,
    name: cluster.metadata.name,
    uid: cluster.metadata.uid,
    controller: true,
  }
}

// ---- inputs hash ----------------------------------------------------------------------------------------------

/** JSON with sorted keys; absent, empty and null fields are left out, so that `pod: {}` means what no `pod` means. */
export function canonical(value: unknown): string {
  return JSON.stringify(normalise(value)) ?? 'null'
}

function normalise(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 0 ? undefined : value.map((item) => normalise(item) ?? null)
  if (typeof value !== 'object' || value === null) return value ?? undefined
  const fields = Object.entries(value)
    .map(([name, field]) => [name, normalise(field)] as const)
    .filter(([, field]) => field !== undefined && field !== '')
    .sort(([a], [b]) => (a < b ? -1 : 1))
  return fields.length === 0 ? undefined : Object.fromEntries(fields)
}

/** FNV-1a, 64 bits, over UTF-16 units: 16 hexadecimal digits. It tells changes apart, it protects nothing. */
export function fingerprint(text: string): string {
  let hash = 0xcbf29ce484222325n
  for (let at = 0; at < text.length; at++) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(text.charCodeAt(at))) * 0x100000001b3n)
  }
  return hash.toString(16).padStart(16, '0')
}

/**
 * Hash of what a person can ask of a pod: it alone tells which pods are out of date. It is taken of the inputs
 * and never of the rendered template, so that a new operator, a new default or an absent image restarts nobody.
 * `image` is the resolved one (see `imageOf`).
 */
export function inputsHash(cluster: LokiCluster, image: string): string {
  const { resources, config, encryption, pod } = cluster.spec
  const { spread, topologyKey } = wanted(cluster.spec)
  const restartedAt = cluster.metadata.annotations?.[ANNOTATIONS.restartedAt]
  const placement = { spread, topologyKey }
  return fingerprint(canonical({ image, resources, config, encryption, pod, placement, restartedAt }))
}

/** The image of the nodes: the one that is asked for, else the one they already have, else the operator's own. */
export function imageOf(cluster: LokiCluster, stored: StatefulSet | null, operatorImage: string): string {
  return cluster.spec.image ?? stored?.spec.template.spec.containers[0]?.image ?? operatorImage
}

// ---- what is read ---------------------------------------------------------------------------------------------

export interface StatefulSet {
  readonly metadata: Metadata
  readonly spec: {
    readonly replicas?: number
    readonly template: {
      readonly metadata?: { readonly annotations?: Readonly<Record<string, string>> }
      readonly spec: { readonly containers: readonly { readonly image?: string }[] }
    }
    readonly volumeClaimTemplates?: readonly unknown[]
  }
}

export interface ContainerStatus {
  readonly restartCount?: number
  readonly state?: {
    readonly waiting?: { readonly reason?: string; readonly message?: string }
    readonly running?: { readonly startedAt?: string }
    readonly terminated?: { readonly reason?: string; readonly exitCode?: number }
  }
  readonly lastState?: { readonly terminated?: { readonly reason?: string; readonly exitCode?: number } }
}

export interface Pod {
  readonly metadata: Metadata
  readonly spec?: { readonly nodeName?: string }
  readonly status?: {
    readonly phase?: string
    readonly podIP?: string
    readonly conditions?: readonly {
      readonly type: string
      readonly status: string
      readonly reason?: string
      readonly message?: string
    }[]
    readonly containerStatuses?: readonly ContainerStatus[]
  }
}

export interface Claim {
  readonly metadata: Metadata
  readonly spec?: { readonly resources?: { readonly requests?: { readonly storage?: string } } }
  readonly status?: { readonly phase?: string; readonly capacity?: { readonly storage?: string } }
}

/** `orders-12` of cluster `orders` is 12; null for a name that is not one of the cluster's. */
export function ordinalOf(cluster: string, pod: string): number | null {
  const rest = pod.startsWith(`${cluster}-`) ? pod.slice(cluster.length + 1) : ''
  return /^(0|[1-9]\d{0,3})$/.test(rest) ? Number(rest) : null
}

export const isReady = (pod: Pod): boolean =>
  pod.status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True') ?? false
