/**
 * Kubernetes objects as plain JSON, and careful ways to look into them. PURE.
 *
 * Objects in the store are immutable by agreement: whoever changes one works on a copy (`copy`).
 */

export type Fields = Record<string, unknown>

export interface OwnerReference {
  apiVersion: string
  kind: string
  name: string
  uid: string
  controller?: boolean
  blockOwnerDeletion?: boolean
}

export interface Metadata {
  name: string
  namespace?: string
  generateName?: string
  uid: string
  resourceVersion: string
  generation?: number
  creationTimestamp: string
  deletionTimestamp?: string
  deletionGracePeriodSeconds?: number
  labels?: Record<string, string>
  annotations?: Record<string, string>
  finalizers?: string[]
  ownerReferences?: OwnerReference[]
  managedFields?: unknown[]
}

export interface KubeObject {
  apiVersion: string
  kind: string
  metadata: Metadata
  spec?: Fields
  status?: Fields
  [field: string]: unknown
}

export const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The value as an object; an empty one where it is none. */
export const fields = (value: unknown): Fields => (isFields(value) ? value : {})
/** The value as a list; an empty one where it is none. */
export const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : [])
/** The value as a string; empty where it is none. */
export const text = (value: unknown): string =>
  typeof value === 'string' ? value : typeof value === 'number' || typeof value === 'boolean' ? String(value) : ''
/** The value as a number; `otherwise` where it is none. */
export const number = (value: unknown, otherwise = 0): number => (typeof value === 'number' ? value : otherwise)

/** The value at a path of field names and positions; undefined where the path ends early. */
export function at(value: unknown, ...path: (string | number)[]): unknown {
  let current = value
  for (const step of path) {
    if (typeof step === 'number') {
      if (!Array.isArray(current)) return undefined
      current = current[step]
    } else {
      if (!isFields(current)) return undefined
      current = current[step]
    }
  }
  return current
}

/** Sets the value at a path of field names; makes the objects on the way. */
export function put(value: Fields, path: readonly string[], leaf: unknown): void {
  let current = value
  for (const step of path.slice(0, -1)) {
    if (!isFields(current[step])) current[step] = {}
    current = current[step] as Fields
  }
  const last = path[path.length - 1]
  if (last !== undefined) current[last] = leaf
}

export const copy = <T>(value: T): T => structuredClone(value)

/** Equal as JSON, the order of fields aside. */
export function same(a: unknown, b: unknown): boolean {
  if (a === b) return true
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, position) => same(item, b[position]))
  }
  if (!isFields(a) || !isFields(b)) return false
  const left = Object.keys(a)
  return left.length === Object.keys(b).length && left.every((key) => key in b && same(a[key], b[key]))
}

/** `/apis/apps/v1` and `/api/v1` name the same thing as `apps/v1` and `v1`. */
export const groupVersion = (group: string, version: string): string => (group === '' ? version : `${group}/${version}`)

/** `apps/v1` -> group and version. */
export function splitGroupVersion(apiVersion: string): { group: string; version: string } {
  const slash = apiVersion.indexOf('/')
  return slash < 0
    ? { group: '', version: apiVersion }
    : { group: apiVersion.slice(0, slash), version: apiVersion.slice(slash + 1) }
}

export const controllerOf = (object: KubeObject): OwnerReference | undefined =>
  object.metadata.ownerReferences?.find((reference) => reference.controller === true)

export const labelsOf = (object: KubeObject): Record<string, string> => object.metadata.labels ?? {}

/** Whether a pod or another object with conditions has this one as True. */
export function hasCondition(object: KubeObject, type: string): boolean {
  return list(at(object, 'status', 'conditions')).some(
    (condition) => at(condition, 'type') === type && at(condition, 'status') === 'True',
  )
}
