/**
 * JSON patch (RFC 6902, by the library of that name), JSON merge patch (RFC 7396) and Kubernetes' strategic
 * merge patch with its directives. PURE: the object that is given stays as it is. Server-side apply: apply.ts.
 */
import { type Operation, applyPatch } from 'rfc6902'
import { Failure, badRequest } from './failure.ts'
import { itemKey, listKind } from './lists.ts'
import { type Fields, copy, isFields, list, same } from './objects.ts'
import type { Resource } from './resources.ts'

const rejected = (): Failure =>
  new Failure(422, 'Invalid', 'the server rejected our request due to an error in our request', {})

/** RFC 6902. 400 for what is no patch, 422 where an operation or a test fails. */
export function jsonPatch(object: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) {
    throw badRequest(
      `error decoding patch: json: cannot unmarshal ${isFields(patch) ? 'object' : typeof patch} into Go value of type []handlers.jsonPatchOp`,
    )
  }
  // The library adds to the end of nothing and replaces what is not there without a word; Kubernetes refuses.
  const patched = copy(object)
  for (const operation of patch as Operation[]) {
    const [failed] = applyPatch(patched, [operation])
    if (failed !== null && failed !== undefined) throw rejected()
  }
  return patched
}

/** RFC 7396. */
export function mergePatch(object: unknown, patch: unknown): unknown {
  if (!isFields(patch)) return copy(patch)
  const merged: Fields = isFields(object) ? { ...object } : {}
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) delete merged[field]
    else merged[field] = mergePatch(merged[field], value)
  }
  return merged
}

const DIRECTIVE = '$patch'
const isDirective = (field: string): boolean => field.startsWith('$')

/** Strategic merge: lists merge by their keys; `$patch`, `$retainKeys` and `$deleteFromPrimitiveList` are obeyed. */
export function strategicMergePatch(
  object: unknown,
  patch: unknown,
  resource: Resource,
  path: readonly string[] = [],
): unknown {
  if (!isFields(patch)) return copy(patch)
  if (patch[DIRECTIVE] === 'replace') return withoutDirectives(patch)
  const merged: Fields = isFields(object) ? { ...object } : {}
  if (Array.isArray(patch.$retainKeys)) {
    for (const field of Object.keys(merged)) if (!patch.$retainKeys.includes(field)) delete merged[field]
  }
  for (const [field, value] of Object.entries(patch)) {
    if (field.startsWith('$deleteFromPrimitiveList/')) {
      const target = field.slice('$deleteFromPrimitiveList/'.length)
      merged[target] = list(merged[target]).filter((item) => !list(value).some((gone) => same(gone, item)))
    }
    if (isDirective(field)) continue
    if (value === null || (isFields(value) && value[DIRECTIVE] === 'delete')) delete merged[field]
    else if (Array.isArray(value)) merged[field] = mergeList(merged[field], value, resource, [...path, field])
    else merged[field] = strategicMergePatch(merged[field], value, resource, [...path, field])
  }
  return merged
}

function mergeList(before: unknown, patch: unknown[], resource: Resource, path: readonly string[]): unknown[] {
  const how = listKind(resource, path)
  const items = patch.filter((item) => !(isFields(item) && item[DIRECTIVE] === 'replace'))
  if (how.kind === 'atomic' || items.length < patch.length) return items.map(withoutDirectives)
  if (how.kind === 'set')
    return [...list(before), ...items.filter((item) => !list(before).some((old) => same(old, item)))]
  // Strategic merge knows one key where apply may know two.
  const keys = how.keys.slice(0, 1)
  const merged = [...list(before)]
  for (const item of items) {
    const position = merged.findIndex((old) => itemKey(old, keys) === itemKey(item, keys))
    if (isFields(item) && item[DIRECTIVE] === 'delete') {
      if (position >= 0) merged.splice(position, 1)
    } else if (position < 0) merged.push(withoutDirectives(item))
    else merged[position] = strategicMergePatch(merged[position], item, resource, path)
  }
  return merged
}

function withoutDirectives(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutDirectives)
  if (!isFields(value)) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([field]) => !isDirective(field))
      .map(([field, item]) => [field, withoutDirectives(item)]),
  )
}
