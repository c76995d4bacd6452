/**
 * Events that people read with `kubectl events`: what happened to which object. The same thing again counts up
 * instead of being told twice. Old ones go.
 */
import { createHash } from 'node:crypto'
import { type KubeObject, number, text } from './objects.ts'
import { type Registry, now } from './registry.ts'
import { builtIn } from './resources.ts'

const EVENTS = builtIn('events')
const KEPT_MILLISECONDS = 3_600_000
/** More than this many are not kept, however young. */
const KEPT_EVENTS = 2000

export type EventType = 'Normal' | 'Warning'

/** Tells of `object` that something happened. Never fails: an event is not worth a turn. */
export function record(
  registry: Registry,
  component: string,
  object: KubeObject,
  type: EventType,
  reason: string,
  message: string,
): void {
  const { name, uid } = object.metadata
  const namespace = object.metadata.namespace ?? 'default'
  const sum = createHash('sha256')
    .update(`${component}/${object.kind}/${uid}/${type}/${reason}/${message}`)
    .digest('hex')
  const eventName = `${name}.${sum.slice(0, 16)}`
  try {
    if (registry.store.get(EVENTS.key, namespace, eventName) !== null) {
      registry.change(EVENTS, namespace, eventName, 'main', (event) => {
        event.count = number(event.count, 1) + 1
        event.lastTimestamp = now()
      })
      return
    }
    registry.add(EVENTS, {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: eventName, namespace },
      involvedObject: {
        kind: object.kind,
        namespace: object.metadata.namespace,
        name,
        uid,
        apiVersion: object.apiVersion,
        resourceVersion: object.metadata.resourceVersion,
      },
      type,
      reason,
      message,
      source: { component },
      reportingComponent: component,
      reportingInstance: '',
      firstTimestamp: now(),
      lastTimestamp: now(),
      count: 1,
    })
  } catch {
    // The namespace may be going.
  }
}

/** Forgets events that are old, and the oldest where there are too many. */
export function forgetOldEvents(registry: Registry): void {
  const told = registry
    .list(EVENTS)
    .map((event) => ({ event, seen: Date.parse(text(event.lastTimestamp) || event.metadata.creationTimestamp) }))
    .sort((a, b) => b.seen - a.seen)
  for (const [position, { event, seen }] of told.entries()) {
    if (position >= KEPT_EVENTS || Date.now() - seen > KEPT_MILLISECONDS) registry.store.remove(EVENTS.key, event)
  }
}
