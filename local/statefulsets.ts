/**
 * StatefulSets: pods with names and volumes that stay. Parallel or ordered, OnDelete or RollingUpdate; the
 * highest ordinals go first; claims are made and never deleted here. Source: pkg/controller/statefulset.
 */
import { createHash } from 'node:crypto'
import { IN_GOOD_ORDER, remove } from './delete.ts'
import { record } from './events.ts'
import { Loop } from './loop.ts'
import {
  type Fields,
  type KubeObject,
  type Metadata,
  at,
  controllerOf,
  copy,
  fields,
  hasCondition,
  labelsOf,
  list,
  number,
  same,
  text,
} from './objects.ts'
import type { Registry } from './registry.ts'
import { builtIn } from './resources.ts'

const SETS = builtIn('statefulsets')
const PODS = builtIn('pods')
const CLAIMS = builtIn('persistentvolumeclaims')
const COMPONENT = 'statefulset-controller'
const REVISION_LABEL = 'controller-revision-hash'

export function startStatefulSets(registry: Registry): Loop {
  return new Loop(registry, [SETS.key, PODS.key, CLAIMS.key], () => {
    for (const set of registry.list(SETS)) {
      if (set.metadata.deletionTimestamp === undefined) reconcile(registry, set)
    }
  })
}

/** Name of the template as it is now: changes when the template does, and only then. */
function revisionOf(set: KubeObject): string {
  const hash = createHash('sha256')
    .update(JSON.stringify(at(set, 'spec', 'template')))
    .digest('hex')
  return `${set.metadata.name}-${hash.slice(0, 10)}`
}

const ordinalOf = (pod: KubeObject): number => Number(/-(\d+)$/.exec(pod.metadata.name)?.[1] ?? -1)
const isReady = (pod: KubeObject): boolean => pod.metadata.deletionTimestamp === undefined && hasCondition(pod, 'Ready')
const isOver = (pod: KubeObject): boolean => ['Failed', 'Succeeded'].includes(text(at(pod, 'status', 'phase')))

function reconcile(registry: Registry, set: KubeObject): void {
  const namespace = set.metadata.namespace ?? ''
  const revision = revisionOf(set)
  const replicas = number(at(set, 'spec', 'replicas'))
  const ordered = at(set, 'spec', 'podManagementPolicy') !== 'Parallel'
  const pods = new Map(
    registry
      .list(PODS, namespace)
      .filter((pod) => controllerOf(pod)?.uid === set.metadata.uid)
      .map((pod) => [ordinalOf(pod), pod]),
  )
  for (const pod of pods.values()) {
    // A pod that has ended for good is replaced.
    if (isOver(pod) && pod.metadata.deletionTimestamp === undefined) removePod(registry, set, pod)
    if (pod.metadata.deletionTimestamp === undefined) ensureClaims(registry, set, pod.metadata.name)
  }
  for (let ordinal = 0; ordinal < replicas; ordinal++) {
    const pod = pods.get(ordinal)
    if (pod === undefined) createPod(registry, set, ordinal, revision)
    if (ordered && (pod === undefined || !isReady(pod))) break
  }
  for (const [ordinal, pod] of [...pods].sort(([a], [b]) => b - a)) {
    if (ordinal < replicas) break
    if (pod.metadata.deletionTimestamp === undefined) removePod(registry, set, pod)
    if (ordered) break
  }
  rollOut(registry, set, [...pods.values()], revision, replicas)
  writeStatus(registry, set, [...pods.values()], revision)
}

/** RollingUpdate: the highest ordinal that is out of date, once all others are ready. OnDelete: nobody. */
function rollOut(
  registry: Registry,
  set: KubeObject,
  pods: readonly KubeObject[],
  revision: string,
  replicas: number,
): void {
  if (at(set, 'spec', 'updateStrategy', 'type') !== 'RollingUpdate' || pods.length < replicas) return
  const outdated = pods
    .filter((pod) => labelsOf(pod)[REVISION_LABEL] !== revision && pod.metadata.deletionTimestamp === undefined)
    .sort((a, b) => ordinalOf(b) - ordinalOf(a))
  const [next] = outdated
  if (next !== undefined && pods.every((pod) => pod === next || isReady(pod))) removePod(registry, set, next)
}

function removePod(registry: Registry, set: KubeObject, pod: KubeObject): void {
  const { name, namespace, uid } = pod.metadata
  remove(registry, PODS, namespace ?? '', name, { ...IN_GOOD_ORDER, uid })
  const message = `delete Pod ${name} in StatefulSet ${set.metadata.name} successful`
  record(registry, COMPONENT, set, 'Normal', 'SuccessfulDelete', message)
}

const ownedBy = (set: KubeObject): Metadata['ownerReferences'] => [
  {
    apiVersion: set.apiVersion,
    kind: set.kind,
    name: set.metadata.name,
    uid: set.metadata.uid,
    controller: true,
    blockOwnerDeletion: true,
  },
]

const templatesOf = (set: KubeObject): Fields[] => list(at(set, 'spec', 'volumeClaimTemplates')).map(fields)
const claimName = (template: Fields, pod: string): string => `${text(at(template, 'metadata', 'name'))}-${pod}`

/** Makes the claims of a pod that are not there. True if all are there and none is on its way out. */
function ensureClaims(registry: Registry, set: KubeObject, pod: string): boolean {
  const namespace = set.metadata.namespace ?? ''
  let complete = true
  for (const template of templatesOf(set)) {
    const name = claimName(template, pod)
    const present = registry.store.get(CLAIMS.key, namespace, name)
    if (present !== null) {
      if (present.metadata.deletionTimestamp !== undefined) complete = false
      continue
    }
    const labels = {
      ...(at(template, 'metadata', 'labels') as Record<string, string> | undefined),
      ...(at(set, 'spec', 'selector', 'matchLabels') as Record<string, string> | undefined),
    }
    registry.add(CLAIMS, {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name, namespace, labels },
      spec: copy(fields(template.spec)),
    })
    const message = `create Claim ${name} Pod ${pod} in StatefulSet ${set.metadata.name} success`
    record(registry, COMPONENT, set, 'Normal', 'SuccessfulCreate', message)
  }
  return complete
}

function createPod(registry: Registry, set: KubeObject, ordinal: number, revision: string): void {
  const name = `${set.metadata.name}-${ordinal}`
  const namespace = set.metadata.namespace ?? ''
  // A claim that is going must be gone before a new one can take its name.
  if (!ensureClaims(registry, set, name)) return
  if (registry.store.get(PODS.key, namespace, name) !== null) return
  const template = copy(fields(at(set, 'spec', 'template')))
  const given = fields(template.metadata)
  const spec = fields(template.spec)
  const claimed = templatesOf(set).map((claim) => ({
    name: text(at(claim, 'metadata', 'name')),
    persistentVolumeClaim: { claimName: claimName(claim, name) },
  }))
  const others = list(spec.volumes).filter((volume) => !claimed.some((each) => each.name === at(volume, 'name')))
  registry.add(PODS, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace,
      labels: {
        ...(given.labels as Record<string, string> | undefined),
        'apps.kubernetes.io/pod-index': String(ordinal),
        [REVISION_LABEL]: revision,
        'statefulset.kubernetes.io/pod-name': name,
      },
      ...(given.annotations === undefined ? {} : { annotations: given.annotations as Record<string, string> }),
      ownerReferences: ownedBy(set)!,
    },
    spec: {
      ...spec,
      hostname: name,
      subdomain: text(at(set, 'spec', 'serviceName')),
      volumes: [...claimed, ...others],
    },
  })
  const message = `create Pod ${name} in StatefulSet ${set.metadata.name} successful`
  record(registry, COMPONENT, set, 'Normal', 'SuccessfulCreate', message)
}

function writeStatus(registry: Registry, set: KubeObject, pods: readonly KubeObject[], revision: string): void {
  const present = pods.filter((pod) => pod.metadata.deletionTimestamp === undefined)
  const updated = present.filter((pod) => labelsOf(pod)[REVISION_LABEL] === revision)
  const ready = present.filter(isReady)
  const before = fields(set.status)
  const current = updated.length === present.length ? revision : text(before.currentRevision) || revision
  const status: Fields = {
    observedGeneration: set.metadata.generation,
    replicas: pods.length,
    availableReplicas: ready.length,
    ...(ready.length === 0 ? {} : { readyReplicas: ready.length }),
    ...(updated.length === 0 ? {} : { updatedReplicas: updated.length }),
    ...(current === revision && present.length > 0 ? { currentReplicas: present.length } : {}),
    currentRevision: current,
    updateRevision: revision,
    collisionCount: 0,
  }
  if (same(before, status)) return
  registry.change(SETS, set.metadata.namespace ?? '', set.metadata.name, 'status', (object) => {
    object.status = status
  })
}
