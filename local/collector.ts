/**
 * What goes when something else goes: dependents of owners that are no more, the contents of namespaces, the
 * objects of definitions. Orphan and foreground deletion are finalizers that are worked off here.
 */
import { IN_GOOD_ORDER, empty, erase, remove } from './delete.ts'
import { forgetOldEvents } from './events.ts'
import { Failure } from './failure.ts'
import { Loop } from './loop.ts'
import { type KubeObject, splitGroupVersion } from './objects.ts'
import type { Registry } from './registry.ts'
import { type Resource, builtIn } from './resources.ts'

const CLEANUP = 'customresourcecleanup.apiextensions.k8s.io'

/** Starts the loop; it cares for everything. */
export function startCollector(registry: Registry): Loop {
  const loop = new Loop(registry, [], () => collect(registry))
  const unsubscribe = registry.store.subscribe((change) => {
    const { metadata } = change.object
    // Only these can leave something to collect.
    if (
      change.type === 'DELETED' ||
      metadata.deletionTimestamp !== undefined ||
      metadata.ownerReferences !== undefined
    ) {
      if (change.resource !== builtIn('events').key) loop.wake()
    }
  })
  const beat = setInterval(() => forgetOldEvents(registry), 60_000)
  const stop = loop.stop.bind(loop)
  loop.stop = () => {
    clearInterval(beat)
    unsubscribe()
    stop()
  }
  return loop
}

interface Known {
  readonly resource: Resource
  readonly object: KubeObject
}

function everything(registry: Registry): Known[] {
  const seen = new Set<string>()
  const found: Known[] = []
  for (const resource of registry.resources()) {
    if (seen.has(resource.key) || resource.kind === 'Event') continue
    seen.add(resource.key)
    for (const object of registry.list(resource)) found.push({ resource, object })
  }
  return found
}

function collect(registry: Registry): void {
  const all = everything(registry)
  const living = new Set(all.map(({ object }) => object.metadata.uid))
  for (const known of all) {
    const { metadata } = known.object
    if (metadata.deletionTimestamp !== undefined) finalize(registry, known, all)
    else if (isAbandoned(registry, known.object, living)) tryTo(() => removeOf(registry, known))
  }
}

/** Whether the object has owners, and none of them is left. */
function isAbandoned(registry: Registry, object: KubeObject, living: ReadonlySet<string>): boolean {
  const owners = object.metadata.ownerReferences ?? []
  if (owners.length === 0) return false
  return owners.every((owner) => {
    const { group } = splitGroupVersion(owner.apiVersion)
    // An owner of a kind that is not known may be there after all.
    const known = registry.resources().some((each) => each.group === group && each.kind === owner.kind)
    return known && !living.has(owner.uid)
  })
}

const removeOf = (registry: Registry, { resource, object }: Known): void => {
  remove(registry, resource, object.metadata.namespace ?? '', object.metadata.name, {
    ...IN_GOOD_ORDER,
    uid: object.metadata.uid,
  })
}

function tryTo(act: () => void): void {
  try {
    act()
  } catch (error) {
    if (!(error instanceof Failure)) throw error
  }
}

function dropFinalizer(registry: Registry, { resource, object }: Known, finalizer: string): void {
  registry.change(resource, object.metadata.namespace ?? '', object.metadata.name, 'main', (changed) => {
    const rest = (changed.metadata.finalizers ?? []).filter((each) => each !== finalizer)
    changed.metadata.finalizers = rest
  })
}

function finalize(registry: Registry, known: Known, all: readonly Known[]): void {
  const { object, resource } = known
  const finalizers = object.metadata.finalizers ?? []
  const dependents = all.filter((each) =>
    each.object.metadata.ownerReferences?.some((owner) => owner.uid === object.metadata.uid),
  )
  if (finalizers.includes('orphan')) {
    for (const dependent of dependents) tryTo(() => release(registry, dependent, object.metadata.uid))
    tryTo(() => dropFinalizer(registry, known, 'orphan'))
  } else if (finalizers.includes('foregroundDeletion')) {
    const blocking = dependents.filter((each) =>
      each.object.metadata.ownerReferences?.some(
        (owner) => owner.uid === object.metadata.uid && owner.blockOwnerDeletion === true,
      ),
    )
    for (const each of dependents)
      if (each.object.metadata.deletionTimestamp === undefined) tryTo(() => removeOf(registry, each))
    if (blocking.length === 0) tryTo(() => dropFinalizer(registry, known, 'foregroundDeletion'))
  } else if (finalizers.includes(CLEANUP)) {
    const served = registry.resources().filter((each) => each.definition === object.metadata.name)
    if (served.every((each) => empty(registry, each, ''))) tryTo(() => dropFinalizer(registry, known, CLEANUP))
  } else if (resource.kind === 'Namespace') finalizeNamespace(registry, object)
}

/** Takes the reference to the owner away, so that the dependent stays. */
function release(registry: Registry, { resource, object }: Known, owner: string): void {
  registry.change(resource, object.metadata.namespace ?? '', object.metadata.name, 'main', (changed) => {
    changed.metadata.ownerReferences = (changed.metadata.ownerReferences ?? []).filter((each) => each.uid !== owner)
  })
}

function finalizeNamespace(registry: Registry, namespace: KubeObject): void {
  const inside = registry.resources().filter((resource) => resource.namespaced && resource.kind !== 'Event')
  const done = inside.map((resource) => empty(registry, resource, namespace.metadata.name))
  if (!done.every(Boolean)) return
  empty(registry, builtIn('events'), namespace.metadata.name)
  erase(registry, builtIn('namespaces'), namespace)
}
