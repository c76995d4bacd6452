/**
 * DELETE and what goes with it: preconditions, grace, finalizers, whole collections, and evictions that honour
 * disruption budgets. Source of the texts: apiserver/pkg/registry and kubernetes/pkg/registry/core/pod/storage.
 */
import { Failure, conflict, invalid, qualified, unsupportedValue } from './failure.ts'
import { type Fields, type KubeObject, at, copy, fields, labelsOf, number, put, text } from './objects.ts'
import { INTERNAL, type Registry, type Write, now } from './registry.ts'
import { type Resource, builtIn } from './resources.ts'
import { matchesSelector } from './selectors.ts'

export interface DeleteOptions {
  readonly uid: string | null
  readonly resourceVersion: string | null
  readonly gracePeriodSeconds: number | null
  readonly propagation: string | null
}

export const AT_ONCE: DeleteOptions = { uid: null, resourceVersion: null, gracePeriodSeconds: 0, propagation: null }
export const IN_GOOD_ORDER: DeleteOptions = { ...AT_ONCE, gracePeriodSeconds: null }

/** Reads `DeleteOptions` from the body and the query, of which the body goes first. */
export function deleteOptions(body: unknown, query: URLSearchParams): DeleteOptions {
  const given = fields(body)
  const grace = given.gracePeriodSeconds ?? query.get('gracePeriodSeconds')
  const propagation = text(given.propagationPolicy ?? query.get('propagationPolicy')) || null
  if (propagation !== null && !['Foreground', 'Background', 'Orphan'].includes(propagation)) {
    const options = { group: 'meta.k8s.io', kind: 'DeleteOptions', plural: 'deleteoptions' }
    const supported = ['Foreground', 'Background', 'Orphan', 'nil']
    throw invalid(options, '', [unsupportedValue('propagationPolicy', propagation, supported)])
  }
  return {
    uid: text(at(given, 'preconditions', 'uid')) || null,
    resourceVersion: text(at(given, 'preconditions', 'resourceVersion')) || null,
    gracePeriodSeconds: grace === null || grace === undefined ? null : Number(grace),
    propagation,
  }
}

function checkPreconditions(resource: Resource, object: KubeObject, options: DeleteOptions): void {
  const { name, uid, resourceVersion } = object.metadata
  const kind = resource.group === '' ? resource.kind : `${resource.kind}.${resource.group}`
  const refuse = (why: string): never => {
    const failure = conflict(resource, name, why)
    throw new Failure(409, 'Conflict', failure.message.replace(qualified(resource), kind), {
      ...failure.details,
      kind: resource.kind,
    })
  }
  if (options.uid !== null && options.uid !== uid) {
    refuse(
      `the UID in the precondition (${options.uid}) does not match the UID in record (${uid}). The object might have been deleted and then recreated`,
    )
  }
  if (options.resourceVersion !== null && options.resourceVersion !== resourceVersion) {
    refuse(
      `the ResourceVersion in the precondition (${options.resourceVersion}) does not match the ResourceVersion in record (${resourceVersion}). The object might have been modified`,
    )
  }
}

/** Seconds until the object may go: pods that run have a grace, all others none. */
function graceOf(resource: Resource, object: KubeObject, options: DeleteOptions): number {
  if (resource.kind !== 'Pod') return 0
  const phase = at(object, 'status', 'phase')
  if (text(at(object, 'spec', 'nodeName')) === '' || phase === 'Succeeded' || phase === 'Failed') return 0
  return Math.max(0, options.gracePeriodSeconds ?? number(at(object, 'spec', 'terminationGracePeriodSeconds'), 30))
}

const FINALIZERS: Readonly<Record<string, string>> = { Foreground: 'foregroundDeletion', Orphan: 'orphan' }

/** Deletes, or marks as being deleted what has a grace or finalizers; `gone` says which. */
export function remove(
  registry: Registry,
  resource: Resource,
  namespace: string,
  name: string,
  options: DeleteOptions,
  write: Write = INTERNAL,
): { object: KubeObject; gone: boolean } {
  const before = registry.get(resource, namespace, name)
  checkPreconditions(resource, before, options)
  const object = copy(before)
  const { metadata } = object
  const added = FINALIZERS[options.propagation ?? '']
  if (added !== undefined && metadata.finalizers?.includes(added) !== true) {
    metadata.finalizers = [...(metadata.finalizers ?? []), added]
  }
  const grace = graceOf(resource, object, options)
  const waits = (metadata.finalizers ?? []).length > 0 || resource.kind === 'Namespace'
  if (grace === 0 && !waits) {
    if (!write.dryRun) registry.store.remove(resource.key, object)
    return { object, gone: true }
  }
  const sooner = metadata.deletionTimestamp !== undefined && grace >= (metadata.deletionGracePeriodSeconds ?? 0)
  if (sooner && added === undefined) return { object: before, gone: false }
  if (!sooner) {
    const due = new Date(Date.now() + grace * 1000).toISOString().replace(/\.\d+Z$/, 'Z')
    metadata.deletionTimestamp ??= due
    if (grace < (metadata.deletionGracePeriodSeconds ?? Number.POSITIVE_INFINITY)) metadata.deletionTimestamp = due
    metadata.deletionGracePeriodSeconds = grace
    if (metadata.generation !== undefined) metadata.generation++
  }
  if (resource.kind === 'Namespace') put(object, ['status', 'phase'], 'Terminating')
  return { object: write.dryRun ? object : registry.store.write(resource.key, object), gone: false }
}

/** The end of an object whose grace is over and whose finalizers are done. */
export function erase(registry: Registry, resource: Resource, object: KubeObject): void {
  const current = registry.store.get(resource.key, object.metadata.namespace ?? '', object.metadata.name)
  if (current === null || current.metadata.uid !== object.metadata.uid) return
  if ((current.metadata.finalizers ?? []).length > 0) return
  registry.store.remove(resource.key, current)
}

const tooManyRequests = (message: string, cause: Fields | null): Failure =>
  new Failure(429, 'TooManyRequests', message, cause === null ? null : { causes: [cause] }, { 'retry-after': '10' })

/**
 * POST pods/N/eviction: takes one disruption from the budget that covers the pod, then deletes it. 429 where
 * the budget allows none at the moment, 500 where more than one budget covers the pod.
 */
export function evict(registry: Registry, namespace: string, name: string, body: unknown, write: Write): void {
  const pods = builtIn('pods')
  const pod = registry.get(pods, namespace, name)
  const options = deleteOptions(at(body, 'deleteOptions'), new URLSearchParams())
  const evicted = text(at(body, 'metadata', 'name'))
  if (evicted !== '' && evicted !== name) {
    throw new Failure(400, 'BadRequest', `name in URL does not match name in Eviction object`)
  }
  const phase = at(pod, 'status', 'phase')
  const counts =
    pod.metadata.deletionTimestamp === undefined && phase !== 'Pending' && phase !== 'Succeeded' && phase !== 'Failed'
  const budgets = registry
    .list(builtIn('poddisruptionbudgets'), namespace)
    .filter((budget) => matchesSelector(at(budget, 'spec', 'selector'), labelsOf(pod)))
  if (counts && budgets.length > 1) {
    throw new Failure(
      500,
      'InternalError',
      'This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.',
    )
  }
  const [budget] = budgets
  if (counts && budget !== undefined) {
    checkPreconditionsOf(pod, options)
    if (spends(budget, pod)) take(registry, budget, name, write)
  }
  remove(registry, pods, namespace, name, options, write)
}

const checkPreconditionsOf = (pod: KubeObject, options: DeleteOptions): void =>
  checkPreconditions(builtIn('pods'), pod, options)

/** A pod that is not ready does not use up a budget that says so, once the healthy ones are enough. */
function spends(budget: KubeObject, pod: KubeObject): boolean {
  const ready = (at(pod, 'status', 'conditions') as Fields[] | undefined)?.some(
    (condition) => condition.type === 'Ready' && condition.status === 'True',
  )
  if (ready === true) return true
  if (at(budget, 'spec', 'unhealthyPodEvictionPolicy') === 'AlwaysAllow') return false
  const healthy = number(at(budget, 'status', 'currentHealthy'))
  return !(
    healthy >= number(at(budget, 'status', 'desiredHealthy')) && number(at(budget, 'status', 'desiredHealthy')) > 0
  )
}

function take(registry: Registry, budget: KubeObject, pod: string, write: Write): void {
  const { name, namespace, generation } = budget.metadata
  const status = fields(budget.status)
  if (number(status.observedGeneration) < (generation ?? 0)) {
    throw tooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", {
      reason: 'DisruptionBudget',
      message: `The disruption budget ${name} is still being processed by the server.`,
    })
  }
  if (number(status.disruptionsAllowed) < 1) {
    throw tooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", {
      reason: 'DisruptionBudget',
      message: `The disruption budget ${name} needs ${number(status.desiredHealthy)} healthy pods and has ${number(status.currentHealthy)} currently`,
    })
  }
  if (write.dryRun) return
  registry.change(builtIn('poddisruptionbudgets'), namespace ?? '', name, 'status', (object) => {
    put(object, ['status', 'disruptionsAllowed'], number(status.disruptionsAllowed) - 1)
    put(object, ['status', 'disruptedPods', pod], now())
  })
}

/** Deletes everything of a namespace; used where a namespace or a definition goes. True once nothing is left. */
export function empty(registry: Registry, resource: Resource, namespace: string): boolean {
  for (const object of registry.list(resource, namespace)) {
    if (object.metadata.deletionTimestamp !== undefined) continue
    try {
      remove(registry, resource, object.metadata.namespace ?? '', object.metadata.name, IN_GOOD_ORDER)
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 404) throw error
    }
  }
  return registry.list(resource, namespace).length === 0
}
