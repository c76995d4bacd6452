/**
 * Requests for resources: which verb a method and a path mean, what the query asks for, and the form of the
 * answer (the object, a Table, metadata alone, a list in pages, a watch). One synchronous step a request.
 */
import type { ServerResponse } from 'node:http'
import { type Call, mediaType, patchOf } from './call.ts'
import { decodeObject, decodeYaml } from './decode.ts'
import { type DeleteOptions, deleteOptions, evict, remove } from './delete.ts'
import {
  Failure,
  badRequest,
  forbiddenValue,
  gone,
  invalid,
  methodNotAllowed,
  noSuchResource,
  notFound,
  unsupportedMediaType,
} from './failure.ts'
import { type Fields, type KubeObject, fields, groupVersion, text } from './objects.ts'
import type { Registry, Write } from './registry.ts'
import type { Resource } from './resources.ts'
import { readScale, writeScale } from './scale.ts'
import { selection } from './selectors.ts'
import { table } from './tables.ts'
import { serveWatch } from './watch.ts'

export interface Answers {
  json(status: number, value: unknown, headers?: Readonly<Record<string, string | string[]>>): void
  /** The plain `404 page not found`. */
  notFound(): void
  /** Hands the response over; what `start` gives back ends it. */
  stream(start: (response: ServerResponse) => () => void): void
}

/** Where the logs of containers come from: the node agent. */
export interface Logs {
  /** Streams the log of a container of a pod that exists; gives how to stop. Throws the 400 where there is none. */
  stream(pod: KubeObject, query: URLSearchParams, response: ServerResponse): () => void
}

interface Target {
  readonly resource: Resource
  readonly namespace: string
  readonly name: string
  readonly subresource: string
}

/** Finds what the path names; null where it names nothing that is served. */
function locate(registry: Registry, call: Call): Target | null {
  const [first = '', second = '', third = '', fourth = '', fifth = ''] = call.segments
  if (first === 'namespaces' && call.segments.length > 2 && third !== 'status' && third !== 'finalize') {
    const resource = registry.find(call.group, call.version, third)
    if (resource === null || !resource.namespaced || call.segments.length > 5) return null
    return { resource, namespace: second, name: fourth, subresource: fifth }
  }
  const resource = registry.find(call.group, call.version, first)
  if (resource === null || call.segments.length > 3 || (resource.namespaced && second !== '')) return null
  return { resource, namespace: '', name: second, subresource: third }
}

export function serveResource(registry: Registry, logs: Logs, call: Call, answers: Answers): void {
  const target = locate(registry, call)
  if (target === null) {
    const known = registry.resources().some((each) => each.group === call.group && each.version === call.version)
    if (known && call.group === '') throw noSuchResource()
    answers.notFound()
    return
  }
  const warnings: string[] = []
  const write = writeOf(call, warnings)
  const done = (status: number, object: KubeObject | Fields): void => {
    const headers = warnings.length === 0 ? {} : { warning: warnings.map((each) => `299 - ${JSON.stringify(each)}`) }
    answers.json(status, inForm(object, target.resource, call), headers)
  }
  if (target.name === '') serveCollection(registry, call, target, write, answers, done)
  else if (target.subresource === '' || target.subresource === 'status')
    serveObject(registry, call, target, write, done)
  else serveSubresource(registry, logs, call, target, write, answers, done)
}

type Done = (status: number, object: KubeObject | Fields) => void

function writeOf(call: Call, warnings: string[]): Write {
  const validation = call.query.get('fieldValidation') ?? 'Warn'
  if (validation !== 'Strict' && validation !== 'Warn' && validation !== 'Ignore') {
    throw badRequest(`fieldValidation: unsupported value: "${validation}"`)
  }
  return {
    // As in Kubernetes, whoever does not say is known by the first part of its User-Agent.
    manager: call.query.get('fieldManager') ?? (isApply(call) ? '' : call.userAgent.split('/')[0] || 'unknown'),
    dryRun: call.query.getAll('dryRun').includes('All'),
    validation,
    warn: (told) => warnings.push(told),
  }
}

const isApply = (call: Call): boolean => call.method === 'PATCH' && mediaType(call) === 'application/apply-patch+yaml'

const decoded = (call: Call, resource: Resource) =>
  decodeObject(
    call.body,
    call.contentType,
    resource.kind,
    resource.schema === null ? groupVersion(resource.group, resource.version) : null,
  )

const scoped = (target: Target): string => {
  if (target.resource.namespaced && target.namespace === '') throw methodNotAllowed()
  return target.namespace
}

function serveCollection(
  registry: Registry,
  call: Call,
  target: Target,
  write: Write,
  answers: Answers,
  done: Done,
): void {
  const { resource, namespace } = target
  switch (call.method) {
    case 'GET':
      if (['true', '1'].includes(call.query.get('watch') ?? '')) watch(registry, call, target, answers)
      else answers.json(200, listed(registry, call, target))
      return
    case 'POST':
      done(201, registry.create(resource, scoped(target), decoded(call, resource), write))
      return
    case 'DELETE': {
      const matches = selectionOf(call, resource)
      const chosen = registry.list(resource, namespace).filter((object) => matches?.(object) ?? true)
      const options = optionsOf(call)
      for (const object of chosen)
        remove(registry, resource, object.metadata.namespace ?? '', object.metadata.name, options, write)
      answers.json(200, listOf(chosen, resource, { resourceVersion: String(registry.store.revision) }))
      return
    }
    case 'PUT':
    case 'PATCH':
      throw badRequest('name must be provided')
    default:
      throw methodNotAllowed()
  }
}

function serveObject(registry: Registry, call: Call, target: Target, write: Write, done: Done): void {
  const { resource, namespace, name } = target
  const part = target.subresource === 'status' ? 'status' : 'main'
  if (part === 'status' && !resource.status) throw noSuchResource()
  switch (call.method) {
    case 'GET':
      done(200, registry.get(resource, namespace, name))
      return
    case 'PUT':
      done(200, registry.update(resource, namespace, name, decoded(call, resource), part, write))
      return
    case 'PATCH': {
      const { object, created } = registry.patch(resource, namespace, name, patchOf(call, resource), part, write)
      done(created ? 201 : 200, object)
      return
    }
    case 'DELETE': {
      if (part === 'status') throw methodNotAllowed()
      const { object, gone } = remove(registry, resource, namespace, name, optionsOf(call), write)
      done(200, gone && resource.kind !== 'Pod' ? success(resource, object) : object)
      return
    }
    default:
      if (call.method === 'POST') decoded(call, resource)
      throw methodNotAllowed()
  }
}

const success = (resource: Resource, object: KubeObject): Fields => ({
  kind: 'Status',
  apiVersion: 'v1',
  metadata: {},
  status: 'Success',
  details: {
    name: object.metadata.name,
    ...(resource.group === '' ? {} : { group: resource.group }),
    kind: resource.plural,
    uid: object.metadata.uid,
  },
})

function serveSubresource(
  registry: Registry,
  logs: Logs,
  call: Call,
  target: Target,
  write: Write,
  answers: Answers,
  done: Done,
): void {
  const { resource, namespace, name, subresource } = target
  if (subresource === 'scale' && resource.scale !== null) {
    if (call.method === 'GET') done(200, readScale(registry.get(resource, namespace, name), resource, resource.scale))
    else if (call.method === 'PUT' || call.method === 'PATCH')
      done(200, writeScale(registry, resource, namespace, name, call, write))
    else throw methodNotAllowed()
  } else if (resource.kind === 'Pod' && subresource === 'eviction') {
    if (call.method !== 'POST') throw methodNotAllowed()
    evict(registry, namespace, name, decodeObject(call.body, call.contentType, 'Eviction', 'policy/v1').value, write)
    done(201, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 })
  } else if (resource.kind === 'Pod' && subresource === 'log') {
    if (call.method !== 'GET') throw methodNotAllowed()
    const pod = registry.get(resource, namespace, name)
    answers.stream((response) => logs.stream(pod, call.query, response))
  } else {
    throw resource.schema === null ? noSuchResource() : notFound(resource, name)
  }
}

function optionsOf(call: Call): DeleteOptions {
  if (call.body.trim() === '') return deleteOptions({}, call.query)
  const type = mediaType(call)
  if (type !== '' && type !== 'application/json' && type !== 'application/yaml') {
    throw unsupportedMediaType(['application/json', 'application/yaml'])
  }
  return deleteOptions(decodeYaml(call.body).value, call.query)
}

// ---- reading --------------------------------------------------------------------------------------------------

const selectionOf = (call: Call, resource: Resource) =>
  selection(call.query.get('labelSelector') ?? '', call.query.get('fieldSelector') ?? '', resource)

function revisionOf(call: Call): number | null {
  const given = call.query.get('resourceVersion') ?? ''
  if (given === '' || given === '0') return null
  if (!/^\d+$/.test(given)) {
    throw badRequest(
      `invalid resource version: resourceVersion: Invalid value: "${given}": strconv.ParseUint: parsing "${given}": invalid syntax`,
    )
  }
  return Number(given)
}

function limitOf(call: Call): number {
  const given = call.query.get('limit') ?? '0'
  if (!/^\d+$/.test(given)) throw badRequest(`strconv.ParseInt: parsing "${given}": invalid syntax`)
  return Number(given)
}

interface Continue {
  readonly revision: number
  /** The last object of the page before, as `namespace/name`. */
  readonly after: string
}

function continueOf(call: Call): Continue | null {
  const given = call.query.get('continue') ?? ''
  if (given === '') return null
  try {
    const token = JSON.parse(Buffer.from(given, 'base64url').toString()) as Partial<Continue>
    if (typeof token.revision === 'number' && typeof token.after === 'string')
      return { revision: token.revision, after: token.after }
  } catch {
    // Not one of ours: refused below.
  }
  throw badRequest('invalid continue token: continue key is not valid: not a token of this server')
}

const placeOf = (object: KubeObject): string => `${object.metadata.namespace ?? ''}/${object.metadata.name}`

function tooLarge(revision: number, current: number): Failure {
  return new Failure(
    504,
    'Timeout',
    `Timeout: Too large resource version: ${revision}, current: ${current}`,
    { causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }], retryAfterSeconds: 1 },
    { 'retry-after': '1' },
  )
}

function listed(registry: Registry, call: Call, target: Target): unknown {
  const { resource, namespace } = target
  const token = continueOf(call)
  const wanted = revisionOf(call)
  if (wanted !== null && wanted > registry.store.revision) throw tooLarge(wanted, registry.store.revision)
  const exact = call.query.get('resourceVersionMatch') === 'Exact' ? wanted : null
  const revision = token?.revision ?? exact ?? registry.store.revision
  const all = registry.store.listAt(resource.key, namespace, revision)
  if (all === null) {
    throw gone(
      'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.',
    )
  }
  const matches = selectionOf(call, resource)
  const after = token === null ? all : all.filter((object) => placeOf(object) > token.after)
  const chosen = after.filter((object) => matches?.(object) ?? true).map((object) => registry.show(resource, object))
  const limit = limitOf(call)
  const page = limit > 0 ? chosen.slice(0, limit) : chosen
  const last = page[page.length - 1]
  const more = page.length < chosen.length && last !== undefined
  const next = more ? Buffer.from(JSON.stringify({ revision, after: placeOf(last) })).toString('base64url') : undefined
  return listInForm(page, resource, call, {
    resourceVersion: String(revision),
    ...(next === undefined ? {} : { continue: next }),
    // With a selector the rest cannot be counted without reading it, so it is not told.
    ...(more && matches === null ? { remainingItemCount: chosen.length - page.length } : {}),
  })
}

const listOf = (objects: readonly KubeObject[], resource: Resource, metadata: Fields): Fields => ({
  apiVersion: groupVersion(resource.group, resource.version),
  items: objects,
  kind: resource.listKind,
  metadata,
})

function watch(registry: Registry, call: Call, target: Target, answers: Answers): void {
  const { query } = call
  const initialEvents = query.get('sendInitialEvents') === 'true'
  if (initialEvents && query.get('resourceVersionMatch') !== 'NotOlderThan') {
    const options = { group: 'meta.k8s.io', kind: 'ListOptions', plural: 'listoptions' }
    const why = 'sendInitialEvents requires setting resourceVersionMatch to NotOlderThan'
    throw invalid(options, '', [forbiddenValue('resourceVersionMatch', why)])
  }
  const since = revisionOf(call)
  const include = query.get('includeObject') ?? 'Metadata'
  const form = formOf(call.accept)
  const matches = selectionOf(call, target.resource)
  answers.stream((response) =>
    serveWatch(
      registry,
      target.resource,
      {
        namespace: target.namespace,
        // The name in the path is the old form of a selector by name.
        matches,
        since,
        initialEvents,
        bookmarks: ['true', '1'].includes(query.get('allowWatchBookmarks') ?? ''),
        timeoutSeconds: Number(query.get('timeoutSeconds') ?? 1800 + Math.round(Math.random() * 1800)),
        shown: (object, first) =>
          form === 'Table'
            ? table(
                [object],
                target.resource,
                { resourceVersion: object.metadata.resourceVersion },
                { include, withColumns: first, now: Date.now() },
              )
            : inForm(object, target.resource, call),
      },
      response,
    ),
  )
}

// ---- forms of an answer ---------------------------------------------------------------------------------------

type Form = 'object' | 'Table' | 'PartialObjectMetadata'

/** The first form in the Accept header that is spoken here. */
function formOf(accept: string): Form {
  for (const each of accept.split(',')) {
    if (/as=Table/.test(each) && /json/.test(each)) return 'Table'
    if (/as=PartialObjectMetadata(List)?/.test(each) && /json/.test(each)) return 'PartialObjectMetadata'
    if (/^\s*(application\/json|\*\/\*|application\/\*)\s*(;|$)/.test(each)) return 'object'
  }
  return 'object'
}

const partial = (object: KubeObject): Fields => ({
  kind: 'PartialObjectMetadata',
  apiVersion: 'meta.k8s.io/v1',
  metadata: object.metadata,
})

function inForm(object: KubeObject | Fields, resource: Resource, call: Call): unknown {
  const form = formOf(call.accept)
  if (form === 'object' || object.kind === 'Status' || object.kind === 'Scale') return object
  if (form === 'PartialObjectMetadata') return partial(object as KubeObject)
  const { resourceVersion } = (object as KubeObject).metadata
  const include = call.query.get('includeObject') ?? 'Metadata'
  return table([object as KubeObject], resource, { resourceVersion }, { include, withColumns: true, now: Date.now() })
}

function listInForm(objects: readonly KubeObject[], resource: Resource, call: Call, metadata: Fields): unknown {
  switch (formOf(call.accept)) {
    case 'Table': {
      const include = text(call.query.get('includeObject')) || 'Metadata'
      return table(objects, resource, metadata, { include, withColumns: true, now: Date.now() })
    }
    case 'PartialObjectMetadata':
      return { kind: 'PartialObjectMetadataList', apiVersion: 'meta.k8s.io/v1', metadata, items: objects.map(partial) }
    case 'object':
      return listOf(objects, resource, fields(metadata))
    default:
      throw methodNotAllowed()
  }
}
