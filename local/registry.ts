/**
 * The verbs of the API on objects, without HTTP: create, update, patch, delete, scale, evict. What HTTP clients
 * and the controllers of this process do goes through here, so that both meet the same rules. Every verb is one
 * synchronous step: nothing can happen between its read and its write. Refusals are thrown as `Failure`.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { type Part, admit, dropUnknown, strictDecoding, strictTexts, withDefaults } from './admission.ts'
import { applied, book } from './apply.ts'
import { firstStatus } from './builtins.ts'
import type { Body } from './decode.ts'
import { admitDefinition, defaultDefinition, definitionStatus } from './definitions.ts'
import {
  Failure,
  alreadyExists,
  badRequest,
  forbidden,
  invalid,
  invalidValue,
  modified,
  notFound,
  requiredValue,
} from './failure.ts'
import { type KubeObject, type Metadata, at, copy, groupVersion, isFields, same, text } from './objects.ts'
import { jsonPatch, mergePatch, strategicMergePatch } from './patch.ts'
import { BUILT_IN, type Resource, builtIn, resourcesOf } from './resources.ts'
import type { Store } from './store.ts'

/** Who writes, and how. */
export interface Write {
  readonly manager: string
  readonly dryRun: boolean
  readonly validation: 'Strict' | 'Warn' | 'Ignore'
  /** Takes the text of a Warning header. */
  readonly warn: (text: string) => void
}

export type Patch =
  | { readonly kind: 'json' | 'merge' | 'strategic'; readonly value: unknown }
  | { readonly kind: 'apply'; readonly value: unknown; readonly force: boolean }

/** How this process itself writes. */
export const INTERNAL: Write = { manager: 'lokikv-local', dryRun: false, validation: 'Ignore', warn: () => {} }

export const now = (): string => new Date().toISOString().replace(/\.\d+Z$/, 'Z')

const GENERATED = 'bcdfghjklmnpqrstvwxz2456789'
const suffix = (): string => [...randomBytes(5)].map((byte) => GENERATED[byte % GENERATED.length]).join('')

/** The verb `DELETE` is in delete.ts; it shares `commit` and `erase` with the ones here. */
export class Registry {
  readonly store: Store
  #custom: readonly Resource[] = []

  constructor(store: Store) {
    this.store = store
    const definitions = builtIn('customresourcedefinitions').key
    const refresh = (): void => {
      this.#custom = store.list(definitions).flatMap(resourcesOf)
    }
    refresh()
    store.subscribe((change) => {
      if (change.resource === definitions) refresh()
    })
  }

  resources(): readonly Resource[] {
    return [...BUILT_IN, ...this.#custom]
  }

  find(group: string, version: string, plural: string): Resource | null {
    const same = (each: Resource): boolean => each.group === group && each.version === version && each.plural === plural
    return this.resources().find(same) ?? null
  }

  findKind(apiVersion: string, kind: string): Resource | null {
    return (
      this.resources().find((each) => groupVersion(each.group, each.version) === apiVersion && each.kind === kind) ??
      null
    )
  }

  /** The object as this version of its resource shows it. */
  show(resource: Resource, object: KubeObject): KubeObject {
    const apiVersion = groupVersion(resource.group, resource.version)
    return object.apiVersion === apiVersion ? object : { ...object, apiVersion }
  }

  /** 404 where there is none. */
  get(resource: Resource, namespace: string, name: string): KubeObject {
    const object = this.store.get(resource.key, namespace, name)
    if (object === null) throw notFound(resource, name)
    return this.show(resource, object)
  }

  list(resource: Resource, namespace = ''): KubeObject[] {
    return this.store.list(resource.key, namespace).map((object) => this.show(resource, object))
  }

  /** The sent object with what decoding decides: right kind, unknown fields refused, told or dropped. */
  #decoded(body: Body, resource: Resource, namespace: string, write: Write): KubeObject {
    const object = copy(body.value) as KubeObject
    if (!isFields(object.metadata)) object.metadata = {} as Metadata
    const apiVersion = groupVersion(resource.group, resource.version)
    if (object.apiVersion !== apiVersion) {
      throw badRequest(
        `the API version in the data (${text(object.apiVersion)}) does not match the expected API version (${apiVersion})`,
      )
    }
    if (object.kind !== resource.kind) {
      const wrong = { ...resource, kind: object.kind }
      throw invalid(wrong, object.metadata.name, [invalidValue('kind', object.kind, `must be ${resource.kind}`)])
    }
    if (resource.namespaced) {
      if (text(object.metadata.namespace) !== '' && object.metadata.namespace !== namespace) {
        throw badRequest('the namespace of the provided object does not match the namespace sent on the request')
      }
      object.metadata.namespace = namespace
    } else delete object.metadata.namespace
    this.#unknown(object, resource, body.duplicates, write)
    return object
  }

  #unknown(object: KubeObject, resource: Resource, duplicates: readonly string[], write: Write): void {
    const unknown = dropUnknown(object, resource)
    if (unknown.length === 0 && duplicates.length === 0) return
    if (write.validation === 'Strict') throw strictDecoding(resource, duplicates, unknown)
    if (write.validation === 'Warn') for (const told of strictTexts(duplicates, unknown)) write.warn(told)
  }

  create(resource: Resource, namespace: string, body: Body, write: Write = INTERNAL): KubeObject {
    const object = this.#decoded(body, resource, namespace, write)
    return this.#created(resource, object, write)
  }

  /** Creates an object of this process's own making. */
  add(
    resource: Resource,
    object: Omit<KubeObject, 'metadata'> & { metadata: Partial<Metadata> },
    write: Write = INTERNAL,
  ): KubeObject {
    return this.create(resource, object.metadata.namespace ?? '', { value: object, duplicates: [] }, write)
  }

  #created(resource: Resource, object: KubeObject, write: Write): KubeObject {
    const { metadata } = object
    if (text(metadata.resourceVersion) !== '') {
      throw new Failure(500, '', 'resourceVersion should not be set on objects to be created')
    }
    if (resource.namespaced) this.#admitNamespace(resource, metadata)
    if (text(metadata.name) === '' && text(metadata.generateName) !== '')
      metadata.name = `${metadata.generateName}${suffix()}`
    metadata.uid = randomUUID()
    metadata.creationTimestamp = now()
    delete metadata.deletionTimestamp
    delete metadata.deletionGracePeriodSeconds
    if (resource.generation) metadata.generation = 1
    else delete metadata.generation
    if (resource.status) delete object.status
    const first = firstStatus(resource)
    // A Node is the machine's own word about itself; nobody else sets its status on the way in.
    if (first !== null) object.status = first
    this.#prepare(resource, object)
    admit(object, null, resource, 'main')
    if (this.store.get(resource.key, metadata.namespace ?? '', metadata.name) !== null) {
      throw alreadyExists(resource, metadata.name)
    }
    this.#book(null, object, resource, 'main', write)
    return write.dryRun ? object : this.store.write(resource.key, object)
  }

  #prepare(resource: Resource, object: KubeObject): void {
    if (resource.kind === 'CustomResourceDefinition') {
      defaultDefinition(object)
      admitDefinition(object, resource)
      object.metadata.finalizers ??= ['customresourcecleanup.apiextensions.k8s.io']
      object.status = definitionStatus(object, now())
    }
    withDefaults(object, resource)
  }

  #admitNamespace(resource: Resource, metadata: Metadata): void {
    const namespace = this.get(builtIn('namespaces'), '', metadata.namespace ?? '')
    if (namespace.metadata.deletionTimestamp === undefined) return
    throw forbidden(
      resource,
      metadata.name,
      `unable to create new content in namespace ${metadata.namespace} because it is being terminated`,
    )
  }

  #book(before: KubeObject | null, after: KubeObject, resource: Resource, part: Part, write: Write): void {
    const subresource = part === 'status' ? 'status' : ''
    book(before, after, resource, { manager: write.manager, operation: 'Update', subresource }, now())
  }

  /** PUT. 409 where the object has changed since the one that was sent was read. */
  update(
    resource: Resource,
    namespace: string,
    name: string,
    body: Body,
    part: Part,
    write: Write = INTERNAL,
  ): KubeObject {
    const object = this.#decoded(body, resource, namespace, write)
    this.#sameName(object, name)
    const before = this.get(resource, namespace, name)
    if (text(object.metadata.resourceVersion) === '') {
      if (resource.schema !== null) {
        throw invalid({ ...resource, kind: resource.plural }, name, [
          invalidValue('metadata.resourceVersion', 0, 'must be specified for an update'),
        ])
      }
    } else this.#sameVersion(resource, object, before)
    return this.commit(resource, before, object, part, write)
  }

  #sameName(object: KubeObject, name: string): void {
    if (object.metadata.name === name) return
    throw badRequest(`the name of the object (${object.metadata.name}) does not match the name on the URL (${name})`)
  }

  #sameVersion(resource: Resource, object: KubeObject, before: KubeObject): void {
    if (object.metadata.resourceVersion !== before.metadata.resourceVersion)
      throw modified(resource, before.metadata.name)
  }

  /** Reads, lets `change` work on a copy, writes. For this process's own controllers. */
  change(
    resource: Resource,
    namespace: string,
    name: string,
    part: Part,
    change: (object: KubeObject) => void,
    write: Write = INTERNAL,
  ): KubeObject {
    const before = this.get(resource, namespace, name)
    const object = copy(before)
    change(object)
    return this.commit(resource, before, object, part, write)
  }

  /** PATCH. A server-side apply makes what is not there. */
  patch(
    resource: Resource,
    namespace: string,
    name: string,
    patch: Patch,
    part: Part,
    write: Write = INTERNAL,
  ): { object: KubeObject; created: boolean } {
    if (patch.kind === 'apply') return this.#apply(resource, namespace, name, patch.value, patch.force, part, write)
    const before = this.get(resource, namespace, name)
    const patched = this.#patched(before, patch, resource)
    if (!isFields(patched) || !isFields(patched.metadata))
      throw new Failure(422, 'Invalid', 'the patch leaves no object')
    const object = patched as KubeObject
    this.#sameName(object, name)
    this.#sameVersion(resource, object, before)
    const unknown = dropUnknown(object, resource)
    if (unknown.length > 0 && write.validation === 'Strict') {
      const wrong = { group: '', kind: '', plural: '' }
      const why = `strict decoding error: ${strictTexts([], unknown).join(', ')}`
      throw invalid(wrong, '', [invalidValue('patch', JSON.stringify(patched), why)])
    }
    if (write.validation === 'Warn') for (const told of strictTexts([], unknown)) write.warn(told)
    return { object: this.commit(resource, before, object, part, write), created: false }
  }

  #patched(before: KubeObject, patch: Exclude<Patch, { kind: 'apply' }>, resource: Resource): unknown {
    switch (patch.kind) {
      case 'json':
        return jsonPatch(before, patch.value)
      case 'merge':
        return mergePatch(before, patch.value)
      case 'strategic':
        return strategicMergePatch(before, patch.value, resource)
      default:
        throw badRequest('unknown kind of patch')
    }
  }

  #apply(
    resource: Resource,
    namespace: string,
    name: string,
    value: unknown,
    force: boolean,
    part: Part,
    write: Write,
  ): { object: KubeObject; created: boolean } {
    if (write.manager === '') {
      const options = { group: 'meta.k8s.io', kind: 'PatchOptions', plural: 'patchoptions' }
      throw invalid(options, '', [requiredValue('fieldManager', 'is required for apply patch')])
    }
    if (isFields(at(value, 'metadata')) && Array.isArray(at(value, 'metadata', 'managedFields'))) {
      throw badRequest('metadata.managedFields must be nil')
    }
    const configuration = this.#decoded({ value, duplicates: [] }, resource, namespace, {
      ...write,
      validation: 'Ignore',
    })
    this.#declared(copy(value) as KubeObject, configuration, resource)
    configuration.metadata.name ??= name
    this.#sameName(configuration, name)
    const before = this.store.get(resource.key, namespace, name)
    if (before === null && part === 'status') throw notFound(resource, name)
    const who = { manager: write.manager, operation: 'Apply', subresource: part === 'status' ? 'status' : '' } as const
    if (text(configuration.metadata.resourceVersion) !== '' && before !== null) {
      this.#sameVersion(resource, configuration, before)
    }
    if (part === 'status') configuration.spec = undefined as never
    else if (resource.status) delete configuration.status
    if (part === 'status') delete configuration.spec
    const object = applied(
      before === null ? null : this.show(resource, before),
      configuration,
      resource,
      who,
      force,
      now(),
    )
    if (before !== null)
      return { object: this.commit(resource, this.show(resource, before), object, part, write, true), created: false }
    const { managedFields } = object.metadata
    const created = this.#created(resource, object, write)
    // The fields that were applied are this manager's; the defaults beside them are nobody's.
    if (!write.dryRun && managedFields !== undefined) {
      const stored = copy(created)
      stored.metadata.managedFields = managedFields
      return { object: this.store.write(resource.key, stored), created: true }
    }
    return { object: created, created: true }
  }

  /** An apply, unlike the other verbs, answers 500 for a field that the schema does not declare. */
  #declared(sent: KubeObject, kept: KubeObject, resource: Resource): void {
    if (resource.schema === null) return
    if (!isFields(sent.metadata)) sent.metadata = {} as Metadata
    const [unknown] = dropUnknown(sent, resource)
    if (unknown === undefined) return
    const { name } = kept.metadata
    throw new Failure(
      500,
      '',
      `failed to create typed patch object (${sent.metadata.namespace ?? ''}/${name}; ${kept.apiVersion}, Kind=${kept.kind}): .${unknown}: field not declared in schema`,
    )
  }

  /** Writes a changed object: keeps what the request may not change, checks it, counts the generation. */
  commit(
    resource: Resource,
    before: KubeObject,
    wanted: KubeObject,
    part: Part,
    write: Write = INTERNAL,
    booked = false,
  ): KubeObject {
    const object = this.#withinPart(resource, before, wanted, part)
    if (part === 'main') this.#prepare(resource, object)
    admit(object, before, resource, part)
    if (!booked) this.#book(before, object, resource, part, write)
    if (resource.generation && part === 'main' && !same(counted(before, resource), counted(object, resource))) {
      object.metadata.generation = (before.metadata.generation ?? 0) + 1
    }
    if (same(before, object)) return before
    const done = object.metadata.deletionTimestamp !== undefined && (object.metadata.finalizers ?? []).length === 0
    if (write.dryRun) return object
    if (done && (before.metadata.finalizers ?? []).length > 0) {
      this.store.remove(resource.key, object)
      return object
    }
    return this.store.write(resource.key, object)
  }

  #withinPart(resource: Resource, before: KubeObject, wanted: KubeObject, part: Part): KubeObject {
    const object = part === 'status' ? { ...copy(before) } : wanted
    if (part === 'status') {
      if (wanted.status === undefined) delete object.status
      else object.status = wanted.status
      if (wanted.metadata.managedFields !== undefined) object.metadata.managedFields = wanted.metadata.managedFields
    } else if (resource.status) {
      if (before.status === undefined) delete object.status
      else object.status = before.status
    }
    const { metadata } = object
    const was = before.metadata
    metadata.uid ??= was.uid
    metadata.creationTimestamp = was.creationTimestamp
    metadata.resourceVersion = was.resourceVersion
    for (const field of ['generation', 'deletionTimestamp', 'deletionGracePeriodSeconds'] as const) {
      if (was[field] === undefined) delete metadata[field]
      else Object.assign(metadata, { [field]: was[field] })
    }
    if (metadata.managedFields === undefined && was.managedFields !== undefined)
      metadata.managedFields = copy(was.managedFields)
    // `[{}]` takes all ownership away.
    if (same(metadata.managedFields, [{}]) || same(metadata.managedFields, [])) delete metadata.managedFields
    for (const field of ['labels', 'annotations', 'finalizers', 'ownerReferences'] as const) {
      const value = metadata[field]
      if (value === null || (value !== undefined && Object.keys(value).length === 0)) delete metadata[field]
    }
    return object
  }
}

/** What counts for the generation. */
function counted(object: KubeObject, resource: Resource): unknown {
  const { metadata: _metadata, status, ...rest } = object
  return resource.status ? rest : { ...rest, status }
}
