/**
 * How lists merge: by key, as a set, or as a whole. Custom resources say it in their schema; for what is built
 * in, a table of field names says it (k8s.io/api types.go: patchMergeKey and listMapKey). PURE.
 */
import { isFields } from './objects.ts'
import type { Resource } from './resources.ts'
import { type Schema, fieldSchema } from './schema.ts'

export type ListKind = { kind: 'atomic' } | { kind: 'set' } | { kind: 'map'; keys: readonly string[] }

const ATOMIC: ListKind = { kind: 'atomic' }

/** Lists whose items are known by these fields, whatever object they are in. */
const KEYED: Readonly<Record<string, readonly string[]>> = {
  containers: ['name'],
  initContainers: ['name'],
  ephemeralContainers: ['name'],
  env: ['name'],
  volumes: ['name'],
  volumeMounts: ['mountPath'],
  volumeDevices: ['devicePath'],
  imagePullSecrets: ['name'],
  secrets: ['name'],
  ownerReferences: ['uid'],
  conditions: ['type'],
  hostAliases: ['ip'],
  podIPs: ['ip'],
  resourceClaims: ['name'],
  schedulingGates: ['name'],
  taints: ['key', 'effect'],
  topologySpreadConstraints: ['topologyKey', 'whenUnsatisfiable'],
}

/** Objects that are replaced as a whole by an apply. */
const ATOMIC_OBJECTS = new Set([
  'selector',
  'labelSelector',
  'podSelector',
  'namespaceSelector',
  'nodeSelector',
  'fieldRef',
  'resourceFieldRef',
  'secretKeyRef',
  'configMapKeyRef',
  'claimRef',
])

/** A field that is absent from an item although it is part of the key. */
export const KEY_DEFAULTS: Readonly<Record<string, string>> = { protocol: 'TCP' }

function builtInList(path: readonly string[]): ListKind {
  const field = path[path.length - 1] ?? ''
  const parent = path[path.length - 2] ?? ''
  if (field === 'finalizers') return { kind: 'set' }
  if (field === 'ports') {
    if (parent === 'containers' || parent === 'initContainers')
      return { kind: 'map', keys: ['containerPort', 'protocol'] }
    return path.length === 2 ? { kind: 'map', keys: ['port', 'protocol'] } : ATOMIC
  }
  const keys = KEYED[field]
  return keys === undefined ? ATOMIC : { kind: 'map', keys }
}

function schemaAt(schema: Schema, path: readonly string[]): Schema | null {
  let current: Schema | null = schema
  for (const field of path) {
    while (current?.items !== undefined) current = current.items
    if (current === null) return null
    current = fieldSchema(current, field)
  }
  return current
}

/** How the list at this path of field names (positions left out) merges. */
export function listKind(resource: Resource, path: readonly string[]): ListKind {
  if (resource.schema === null || path[0] === 'metadata') return builtInList(path)
  const schema = schemaAt(resource.schema, path)
  switch (schema?.['x-kubernetes-list-type'] ?? 'atomic') {
    case 'set':
      return { kind: 'set' }
    case 'map':
      return { kind: 'map', keys: schema?.['x-kubernetes-list-map-keys'] ?? [] }
    default:
      return ATOMIC
  }
}

/** Whether the object at this path is replaced as a whole. */
export function isAtomicObject(resource: Resource, path: readonly string[]): boolean {
  if (resource.schema === null) return ATOMIC_OBJECTS.has(path[path.length - 1] ?? '')
  return schemaAt(resource.schema, path)?.['x-kubernetes-map-type'] === 'atomic'
}

/** The key of an item as text that is the same for the same key. */
export function itemKey(item: unknown, keys: readonly string[]): string {
  const given = isFields(item) ? item : {}
  return JSON.stringify(Object.fromEntries([...keys].sort().map((key) => [key, given[key] ?? KEY_DEFAULTS[key]])))
}
