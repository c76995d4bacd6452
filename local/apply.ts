/**
 * Who owns which field, and server-side apply on top of it. PURE.
 *
 * `metadata.managedFields` holds, for each manager and operation, a tree in the form FieldsV1: `f:name` for a
 * field, `k:{…}` for an item of a keyed list, `v:…` for a member of a set, `.` for the thing itself. Source:
 * sigs.k8s.io/structured-merge-diff, reduced: one version, and ownership of leaves.
 */
import { Failure } from './failure.ts'
import { isAtomicObject, itemKey, listKind } from './lists.ts'
import { type Fields, type KubeObject, at, copy, fields, isFields, list, same, text } from './objects.ts'
import type { Resource } from './resources.ts'

/** A leaf is an empty tree. */
export interface Tree {
  [step: string]: Tree
}

export interface Manager {
  readonly manager: string
  readonly operation: 'Apply' | 'Update'
  readonly subresource: string
}

/** What the API itself writes is nobody's. */
const UNOWNED: Tree = Object.fromEntries([
  ['f:apiVersion', {}],
  ['f:kind', {}],
  [
    'f:metadata',
    Object.fromEntries(
      [
        'name',
        'namespace',
        'generateName',
        'creationTimestamp',
        'deletionTimestamp',
        'deletionGracePeriodSeconds',
        'uid',
        'generation',
        'resourceVersion',
        'managedFields',
        'selfLink',
      ].map((field) => [`f:${field}`, {}]),
    ),
  ],
])

type Path = readonly string[]

/** The items of a list that merges, by their step in the tree; null for one that is a whole. */
function items(value: unknown, resource: Resource, path: Path): Map<string, unknown> | null {
  const how = listKind(resource, path)
  if (!Array.isArray(value) || how.kind === 'atomic') return null
  return how.kind === 'set'
    ? new Map(value.map((item: unknown) => [`v:${JSON.stringify(item)}`, item]))
    : new Map(value.map((item: unknown) => [`k:${itemKey(item, how.keys)}`, item]))
}

/** Whether it is a list that merges and has nothing in it: nobody owns that. */
const isEmptyList = (value: unknown, resource: Resource, path: Path): boolean =>
  items(value, resource, path)?.size === 0

/** All leaves of a value. */
function leaves(value: unknown, resource: Resource, path: Path): Tree {
  const members = items(value, resource, path)
  if (members !== null) {
    return Object.fromEntries(
      [...members].map(([step, item]) => [
        step,
        step.startsWith('v:') ? {} : { '.': {}, ...leaves(item, resource, path) },
      ]),
    )
  }
  if (!isFields(value) || isAtomicObject(resource, path)) return {}
  return Object.fromEntries(
    Object.entries(value)
      .filter(([field, item]) => item !== undefined && !isEmptyList(item, resource, [...path, field]))
      .map(([field, item]) => [`f:${field}`, leaves(item, resource, [...path, field])]),
  )
}

/** Leaves of `after` that are new or have another value than in `before`; null where there are none. */
function changed(before: unknown, after: unknown, resource: Resource, path: Path): Tree | null {
  if (same(before, after)) return null
  const [old, now] = [items(before, resource, path), items(after, resource, path)]
  if (old !== null && now !== null) {
    const tree: Tree = {}
    for (const [step, item] of now) {
      if (!old.has(step)) tree[step] = step.startsWith('v:') ? {} : { '.': {}, ...leaves(item, resource, path) }
      else Object.assign(tree, wrap(step, changed(old.get(step), item, resource, path)))
    }
    return Object.keys(tree).length === 0 ? null : tree
  }
  if (!isFields(before) || !isFields(after) || isAtomicObject(resource, path)) return leaves(after, resource, path)
  const tree: Tree = {}
  for (const [field, item] of Object.entries(after)) {
    if (item !== undefined)
      Object.assign(tree, wrap(`f:${field}`, changed(before[field], item, resource, [...path, field])))
  }
  return Object.keys(tree).length === 0 ? null : tree
}

const wrap = (step: string, tree: Tree | null): Tree => (tree === null ? {} : { [step]: tree })

export const isLeaf = (tree: Tree): boolean => Object.keys(tree).length === 0

function union(a: Tree, b: Tree): Tree {
  const merged: Tree = { ...a }
  for (const [step, tree] of Object.entries(b)) merged[step] = step in merged ? union(merged[step]!, tree) : tree
  return merged
}

/** `a` without what `b` covers: a leaf of `b` covers everything below it. */
function subtract(a: Tree, b: Tree): Tree {
  const rest: Tree = {}
  for (const [step, tree] of Object.entries(a)) {
    const minus = b[step]
    if (minus === undefined) rest[step] = tree
    else if (!isLeaf(minus)) {
      const left = isLeaf(tree) ? tree : subtract(tree, minus)
      if (isLeaf(tree) || !isLeaf(left)) rest[step] = left
    }
  }
  return rest
}

/** The leaves of `a` that are no leaves of `b`: of a list that has become empty, its items. */
function difference(a: Tree, b: Tree): Tree {
  const rest: Tree = {}
  for (const [step, tree] of Object.entries(a)) {
    const other = b[step]
    if (other === undefined) rest[step] = tree
    else if (!isLeaf(tree)) {
      const left = difference(tree, other)
      if (!isLeaf(left)) rest[step] = left
    }
  }
  return rest
}

/** Leaves that both have. */
function intersect(a: Tree, b: Tree): Tree {
  const common: Tree = {}
  for (const [step, tree] of Object.entries(a)) {
    const other = b[step]
    if (other === undefined) continue
    const below = isLeaf(tree) || isLeaf(other) ? {} : intersect(tree, other)
    if (isLeaf(tree) || isLeaf(other) || !isLeaf(below)) common[step] = below
  }
  return common
}

interface Entry extends Manager {
  readonly apiVersion: string
  readonly time: string
  readonly tree: Tree
}

function entriesOf(object: KubeObject | null): Entry[] {
  return list(object?.metadata.managedFields).map((entry) => ({
    manager: text(at(entry, 'manager')),
    operation: at(entry, 'operation') === 'Apply' ? 'Apply' : 'Update',
    subresource: text(at(entry, 'subresource')),
    apiVersion: text(at(entry, 'apiVersion')),
    time: text(at(entry, 'time')),
    tree: fields(at(entry, 'fieldsV1')) as Tree,
  }))
}

function setEntries(object: KubeObject, entries: readonly Entry[]): void {
  const written = entries
    .filter((entry) => !isLeaf(entry.tree))
    .map((entry) => ({
      manager: entry.manager,
      operation: entry.operation,
      apiVersion: entry.apiVersion,
      time: entry.time,
      fieldsType: 'FieldsV1',
      fieldsV1: entry.tree,
      ...(entry.subresource === '' ? {} : { subresource: entry.subresource }),
    }))
  if (written.length === 0) delete object.metadata.managedFields
  else object.metadata.managedFields = written
}

const isBy = (entry: Manager, who: Manager): boolean =>
  entry.manager === who.manager && entry.operation === who.operation && entry.subresource === who.subresource

/** Books, in place, the changes from `before` to `after` to the manager that made them. `now`: RFC 3339. */
export function book(
  before: KubeObject | null,
  after: KubeObject,
  resource: Resource,
  who: Manager,
  now: string,
): void {
  const mine = subtract(changed(before ?? {}, after, resource, []) ?? {}, UNOWNED)
  const given = entriesOf(after)
  const lost = before === null ? {} : difference(leaves(before, resource, []), leaves(after, resource, []))
  if (isLeaf(mine) && isLeaf(lost)) return
  const entries = given.map((entry) =>
    isBy(entry, who)
      ? { ...entry, tree: union(subtract(entry.tree, lost), mine), time: isLeaf(mine) ? entry.time : now }
      : { ...entry, tree: subtract(subtract(entry.tree, mine), lost) },
  )
  if (!given.some((entry) => isBy(entry, who))) {
    entries.push({ ...who, apiVersion: after.apiVersion, time: now, tree: mine })
  }
  setEntries(after, entries)
}

/** The value that the applied configuration makes of the live one: fields over fields, lists by their kind. */
function merged(live: unknown, applied: unknown, resource: Resource, path: Path): unknown {
  const [old, now] = [items(live, resource, path), items(applied, resource, path)]
  if (old !== null && now !== null) {
    const result = new Map(old)
    for (const [step, item] of now) result.set(step, merged(old.get(step), item, resource, path))
    return [...result.values()]
  }
  if (!isFields(live) || !isFields(applied) || isAtomicObject(resource, path)) return copy(applied)
  const result: Fields = { ...live }
  for (const [field, item] of Object.entries(applied)) {
    if (item !== undefined) result[field] = merged(live[field], item, resource, [...path, field])
  }
  return result
}

/** Removes, in place, what `tree` names and `keep` does not; what becomes empty by that goes too. */
function remove(value: unknown, tree: Tree, keep: Tree, resource: Resource, path: Path): void {
  for (const [step, below] of Object.entries(tree)) {
    const kept = keep[step]
    const sign = step.slice(0, 2)
    if (sign === 'f:' && isFields(value)) {
      const field = step.slice(2)
      const inside = [...path, field]
      if (kept === undefined && isLeaf(below)) delete value[field]
      else if (!isLeaf(below) && value[field] !== undefined) {
        remove(value[field], below, kept ?? {}, resource, inside)
        const empty = Array.isArray(value[field]) ? value[field].length === 0 : same(value[field], {})
        if (empty && kept === undefined) delete value[field]
      }
    } else if ((sign === 'k:' || sign === 'v:') && Array.isArray(value)) {
      const position = [...(items(value, resource, path)?.keys() ?? [])].indexOf(step)
      if (position < 0) continue
      if (kept === undefined) value.splice(position, 1)
      else remove(value[position], below, kept, resource, path)
    }
  }
}

function conflicts(entries: readonly Entry[], disputed: Tree): Failure | null {
  const found = entries.flatMap((entry) => {
    const through = entry.subresource === '' ? '' : ` with subresource "${entry.subresource}"`
    const using = entry.operation === 'Apply' ? '' : ` using ${entry.apiVersion}`
    const name = `"${entry.manager}"${through}${using}`
    return pathsOf(intersect(disputed, entry.tree)).map((field) => ({ name, field }))
  })
  if (found.length === 0) return null
  const managers = [...new Set(found.map((each) => each.name))]
  const said = managers.map(
    (name) =>
      `conflicts with ${name}:\n${found
        .filter((each) => each.name === name)
        .map((each) => `- ${each.field}`)
        .join('\n')}`,
  )
  const message =
    found.length === 1
      ? `Apply failed with 1 conflict: conflict with ${found[0]!.name}: ${found[0]!.field}`
      : `Apply failed with ${found.length} conflicts: ${said.join('\n')}`
  return new Failure(409, 'Conflict', message, {
    causes: found.map((each) => ({
      reason: 'FieldManagerConflict',
      message: `conflict with ${each.name}`,
      field: each.field,
    })),
  })
}

/** Leaves as paths: `.spec.ports[port=1].name`. */
function pathsOf(tree: Tree, path = ''): string[] {
  return Object.entries(tree).flatMap(([step, below]) => {
    if (step === '.') return []
    const here = `${path}${shownStep(step)}`
    return isLeaf(below) ? [here] : pathsOf(below, here)
  })
}

function shownStep(step: string): string {
  if (step.startsWith('f:')) return `.${step.slice(2)}`
  if (step.startsWith('v:')) return `[=${step.slice(2)}]`
  const keys = Object.entries(JSON.parse(step.slice(2)) as Fields)
  return `[${keys.map(([key, value]) => `${key}=${JSON.stringify(value)}`).join(',')}]`
}

/**
 * Server-side apply of a configuration on the live object (null: there is none yet). What this manager applied
 * before and does not any more goes, unless another owns it. Throws the 409 of a conflict unless forced.
 */
export function applied(
  live: KubeObject | null,
  configuration: KubeObject,
  resource: Resource,
  who: Manager,
  force: boolean,
  now: string,
): KubeObject {
  const mine = subtract(leaves(configuration, resource, []), UNOWNED)
  const entries = entriesOf(live)
  const others = entries.filter((entry) => !isBy(entry, who))
  const previous = entries.find((entry) => isBy(entry, who))
  const base: KubeObject = live === null ? copy(configuration) : copy(live)
  const result = merged(base, configuration, resource, []) as KubeObject
  const disputed = live === null ? {} : intersect(mine, changed(live, result, resource, []) ?? {})
  if (!force) {
    const refusal = conflicts(others, disputed)
    if (refusal !== null) throw refusal
  }
  const kept = others.map((entry) => ({ ...entry, tree: subtract(entry.tree, disputed) }))
  const dropped = difference(previous?.tree ?? {}, mine)
  const keep = kept.reduce((all, entry) => union(all, entry.tree), mine)
  remove(result, dropped, keep, resource, [])
  const unchanged = previous !== undefined && same(previous.tree, mine) && isLeaf(disputed)
  const own: Entry = { ...who, apiVersion: configuration.apiVersion, time: unchanged ? previous.time : now, tree: mine }
  setEntries(result, [...kept, own])
  return result
}
