/* oxlint-disable vitest/no-standalone-expect -- these are parts of tests */
/**
 * Conformance of what changes objects: create, update, patch, apply, subresources, delete. Run by
 * conformance.test.ts; every expectation was answered by Kubernetes 1.36.
 */
import { expect } from 'vitest'
import type { Answer, Ask, Fields } from './conformance-client.ts'
import { type Case, GROUP, NOT_ALL, type Server, at, causesOf, messageOf, until } from './conformance-server.ts'

export const writes: Record<string, Case> = {}
const cases = writes

// ---- create ---------------------------------------------------------------------------------------------------

cases['create fills in metadata and defaults, and takes a null for absent'] = async (server) => {
  const { object } = await server.make({ size: '1Gi', mode: null })
  expect(object.spec).toEqual({ size: '1Gi', mode: 'Fast', replicas: 3, nested: { retries: 5 } })
  expect(object.metadata).toMatchObject({ generation: 1, namespace: server.namespace })
  expect(at(object, 'metadata', 'uid')).toMatch(/^[0-9a-f-]{36}$/)
  expect(at(object, 'metadata', 'creationTimestamp')).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
}

cases['create again: 409 AlreadyExists'] = async (server) => {
  const { name } = await server.make()
  const again = await server.ask('POST', server.widgets, { body: server.widget(name) })
  expect(again.body).toEqual({
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: `widgets.${GROUP} "${name}" already exists`,
    reason: 'AlreadyExists',
    details: { name, group: GROUP, kind: 'widgets' },
    code: 409,
  })
}

cases['create with generateName'] = async (server) => {
  const made = await server.ask('POST', server.widgets, {
    body: server.widget(undefined, { size: '1' }, { generateName: 'gen-' }),
  })
  expect(made.status).toBe(201)
  expect(at(made.body, 'metadata', 'name')).toMatch(/^gen-[a-z0-9]{5}$/)
}

cases['create refuses what does not fit its path'] = async (server) => {
  const post = (body: unknown, path = server.widgets): Promise<Answer> => server.ask('POST', path, { body })
  const wrongKind = await post({ ...server.widget('x'), kind: 'Gadget' })
  expect([wrongKind.status, messageOf(wrongKind)]).toEqual([
    422,
    `Gadget.${GROUP} "x" is invalid: kind: Invalid value: "Gadget": must be Widget`,
  ])
  const wrongVersion = await post({ ...server.widget('x'), apiVersion: 'v1' })
  expect([wrongVersion.status, messageOf(wrongVersion)]).toEqual([
    400,
    `the API version in the data (v1) does not match the expected API version (${GROUP}/v1)`,
  ])
  const noKind = await post({ metadata: { name: 'x' } })
  expect([noKind.status, messageOf(noKind)]).toEqual([
    400,
    `the object provided is unrecognized (must be of type Widget): Object 'Kind' is missing in '{"metadata":{"name":"x"}}' ({"metadata":{"name":"x"}})`,
  ])
  const noJson = await post('{')
  expect([noJson.status, messageOf(noJson)]).toEqual([
    400,
    "the object provided is unrecognized (must be of type Widget): couldn't get version/kind; json parse error: unexpected end of JSON input ({)",
  ])
  const otherNamespace = await post(server.widget('x', { size: '1' }, { namespace: 'other' }))
  expect([otherNamespace.status, messageOf(otherNamespace)]).toEqual([
    400,
    'the namespace of the provided object does not match the namespace sent on the request',
  ])
  const noNamespace = await post(server.widget('x'), server.widgets.replace(server.namespace, 'not-there'))
  expect([noNamespace.status, messageOf(noNamespace)]).toEqual([404, 'namespaces "not-there" not found'])
  const versioned = await post(server.widget('x', { size: '1' }, { resourceVersion: '5' }))
  expect([versioned.status, messageOf(versioned)]).toEqual([
    500,
    'resourceVersion should not be set on objects to be created',
  ])
}

cases['dry run stores nothing'] = async (server) => {
  const name = server.name()
  const dry = await server.ask('POST', `${server.widgets}?dryRun=All`, { body: server.widget(name) })
  expect([dry.status, at(dry.body, 'spec', 'replicas'), at(dry.body, 'metadata', 'resourceVersion')]).toEqual([
    201,
    3,
    undefined,
  ])
  expect((await server.ask('GET', `${server.widgets}/${name}`)).status).toBe(404)
}

// ---- strict decoding and validation ---------------------------------------------------------------------------

cases['strict decoding: 400; by default a warning, and what is unknown is pruned'] = async (server) => {
  const body = server.widget(server.name(), { size: '1Gi', bogus: 1, nested: { foo: 1 } })
  const strict = await server.ask('POST', `${server.widgets}?fieldValidation=Strict`, { body })
  expect([strict.status, strict.body.reason, messageOf(strict)]).toEqual([
    400,
    'BadRequest',
    'Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "spec.bogus", unknown field "spec.nested.foo"',
  ])
  const warned = await server.ask('POST', server.widgets, { body })
  expect([warned.status, warned.headers.warning]).toEqual([
    201,
    '299 - "unknown field \\"spec.bogus\\"", 299 - "unknown field \\"spec.nested.foo\\""',
  ])
  expect(at(warned.body, 'spec')).toEqual({ size: '1Gi', mode: 'Fast', replicas: 3, nested: { retries: 5 } })
  const twice = await server.ask('POST', `${server.widgets}?fieldValidation=Strict`, {
    body: `{"apiVersion":"${GROUP}/v1","kind":"Widget","metadata":{"name":"x"},"spec":{"size":"1Gi","size":"2Gi"}}`,
  })
  expect([twice.status, messageOf(twice)]).toEqual([
    400,
    'Widget in version "v1" cannot be handled as a Widget: strict decoding error: duplicate field "spec.size"',
  ])
}

cases['unknown fields where the schema says so are kept'] = async (server) => {
  const { object } = await server.make({ size: '1', anything: { a: { b: [1, { c: true }] } }, percent: '50%' })
  expect(at(object, 'spec', 'anything')).toEqual({ a: { b: [1, { c: true }] } })
}

cases['validation: 422 with every cause'] = async (server) => {
  const post = (spec: Fields | undefined, name?: string): Promise<Answer> =>
    server.ask('POST', server.widgets, { body: server.widget(name ?? 'x', spec) })
  const negative = await post({ size: '1Gi', replicas: -1 })
  expect(negative.status).toBe(422)
  expect(messageOf(negative)).toContain(`Widget.${GROUP} "x" is invalid: [`)
  expect(causesOf(negative)).toEqual([
    '.spec.replicas: Invalid value: -1: should be a non-negative integer',
    'spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0',
  ])
  expect(causesOf(await post({ size: 1, nested: [], names: 'x' }))).toEqual([
    NOT_ALL,
    'spec.names: Invalid value: "string": spec.names in body must be of type array: "string"',
    'spec.nested: Invalid value: "array": spec.nested in body must be of type object: "array"',
    'spec.size: Invalid value: "integer": spec.size in body must be of type string: "integer"',
  ])
  expect(causesOf(await post({}))).toEqual([NOT_ALL, 'spec.size: Required value'])
  expect(
    causesOf(
      await post({
        size: '',
        mode: 'Zap',
        code: '!!',
        names: ['a', 'b', 'c', 'd'],
        replicas: 99,
        map: { a: '1', b: '2', c: '3' },
        ports: [{ port: 1 }, { port: 1 }],
        tags: ['a', 'a'],
      }),
    ),
  ).toEqual([
    NOT_ALL,
    'spec.code: Invalid value: "!!": spec.code in body should match \'^[a-z]+$\'',
    'spec.map: Too many: 3: must have at most 2 items',
    'spec.mode: Unsupported value: "Zap": supported values: "Fast", "Slow"',
    'spec.names: Too many: 4: must have at most 3 items',
    'spec.ports[1]: Duplicate value: {"port":1}',
    'spec.replicas: Invalid value: 99: spec.replicas in body should be less than or equal to 9',
    'spec.size: Invalid value: "": spec.size in body should be at least 1 chars long',
    'spec.tags[1]: Duplicate value: "a"',
  ])
  const name = await post({ size: '1' }, 'A_b')
  expect(messageOf(name)).toContain(
    'metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of',
  )
}

cases['CEL rules: messages, fields, and transitions'] = async (server) => {
  const post = (spec: Fields): Promise<Answer> => server.ask('POST', server.widgets, { body: server.widget('x', spec) })
  expect(causesOf(await post({ size: 'abc' }))).toEqual(['spec.size: Invalid value: "abc": size is not a quantity'])
  expect(causesOf(await post({ size: '1', low: 5, high: 3 }))).toEqual([
    'spec: Invalid value: low must not be above high',
  ])
  // An error of the schema keeps the rules from being looked at.
  expect(causesOf(await post({ size: 'abc', names: 7 }))).toEqual([
    NOT_ALL,
    'spec.names: Invalid value: "integer": spec.names in body must be of type array: "integer"',
  ])
  const { path } = await server.make({ size: '1Gi' })
  expect(causesOf(await server.merge(path, { spec: { size: '1Mi' } }))).toEqual([
    'spec.size: Forbidden: size cannot shrink',
  ])
  expect(causesOf(await server.merge(path, { spec: { mode: 'Slow' } }))).toEqual([
    'spec: Invalid value: mode cannot be changed',
  ])
  expect((await server.merge(path, { spec: { size: '2048Mi' } })).status).toBe(200)
}

// ---- update and patch -----------------------------------------------------------------------------------------

cases['update: 409 for an old resource version, 422 without one, 400 for another name'] = async (server) => {
  const { path, name, object } = await server.make()
  await server.merge(path, { spec: { replicas: 4 } })
  const stale = await server.ask('PUT', path, { body: object })
  expect([stale.status, stale.body.reason, messageOf(stale)]).toEqual([
    409,
    'Conflict',
    `Operation cannot be fulfilled on widgets.${GROUP} "${name}": the object has been modified; please apply your changes to the latest version and try again`,
  ])
  const unversioned = await server.ask('PUT', path, { body: server.widget(name) })
  expect([unversioned.status, messageOf(unversioned)]).toEqual([
    422,
    `widgets.${GROUP} "${name}" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update`,
  ])
  const renamed = await server.ask('PUT', path, { body: server.widget('q', { size: '1' }, { resourceVersion: '1' }) })
  expect([renamed.status, messageOf(renamed)]).toEqual([
    400,
    `the name of the object (q) does not match the name on the URL (${name})`,
  ])
}

cases['generation counts changes of the spec; what changes nothing bumps nothing'] = async (server) => {
  const { path, object } = await server.make()
  const labelled = await server.merge(path, { metadata: { labels: { a: 'b' } } })
  expect(at(labelled.body, 'metadata', 'generation')).toBe(1)
  const same = await server.merge(path, { spec: { size: '1Gi' } })
  expect(at(same.body, 'metadata', 'resourceVersion')).toBe(at(labelled.body, 'metadata', 'resourceVersion'))
  const changed = await server.merge(path, { spec: { replicas: 5 } })
  expect(at(changed.body, 'metadata', 'generation')).toBe(2)
  expect(at(changed.body, 'metadata', 'resourceVersion')).not.toBe(at(object, 'metadata', 'resourceVersion'))
}

cases['merge patch and JSON patch'] = async (server) => {
  const { path } = await server.make({ size: '1Gi', map: { a: '1', b: '2' } })
  const merged = await server.merge(path, { spec: { map: { a: null, b: '3' } } })
  expect(at(merged.body, 'spec', 'map')).toEqual({ b: '3' })
  const json = (body: unknown): Promise<Answer> =>
    server.ask('PATCH', path, { body, type: 'application/json-patch+json' })
  const patched = await json([
    { op: 'test', path: '/spec/size', value: '1Gi' },
    { op: 'add', path: '/spec/tags', value: ['x'] },
    { op: 'add', path: '/spec/tags/-', value: 'y' },
  ])
  expect(at(patched.body, 'spec', 'tags')).toEqual(['x', 'y'])
  for (const body of [[{ op: 'test', path: '/spec/size', value: 'x' }], [{ op: 'remove', path: '/spec/nope' }]]) {
    const refused = await json(body)
    expect([refused.status, messageOf(refused)]).toEqual([
      422,
      'the server rejected our request due to an error in our request',
    ])
  }
  const stale = await server.merge(path, { metadata: { resourceVersion: '1' } })
  expect(stale.status).toBe(409)
  const strategic = await server.ask('PATCH', path, { body: {}, type: 'application/strategic-merge-patch+json' })
  expect([strategic.status, messageOf(strategic)]).toEqual([
    415,
    'the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml',
  ])
}

cases['strategic merge patch of what is built in merges lists by key'] = async (server) => {
  const path = `${server.core}/services/${server.name()}`
  const ports = [
    { name: 'a', port: 1 },
    { name: 'b', port: 2 },
  ]
  const service = { apiVersion: 'v1', kind: 'Service', metadata: { name: path.split('/').pop() }, spec: { ports } }
  expect((await server.ask('POST', `${server.core}/services`, { body: service })).status).toBe(201)
  const patch = {
    spec: {
      ports: [
        { port: 2, targetPort: 22 },
        { port: 1, $patch: 'delete' },
      ],
    },
  }
  const patched = await server.ask('PATCH', path, { body: patch, type: 'application/strategic-merge-patch+json' })
  expect(at(patched.body, 'spec', 'ports')).toEqual([{ name: 'b', port: 2, protocol: 'TCP', targetPort: 22 }])
}

cases['server-side apply: creates, changes, takes away what it does not say any more'] = async (server) => {
  const name = server.name()
  const path = `${server.widgets}/${name}`
  const first = await server.apply(
    path,
    'm1',
    server.widget(name, { size: '1Gi', map: { a: '1', b: '2' }, ports: [{ port: 1, name: 'x' }, { port: 2 }] }),
  )
  expect(first.status).toBe(201)
  const again = await server.apply(
    path,
    'm1',
    server.widget(name, { size: '1Gi', map: { a: '1', b: '2' }, ports: [{ port: 1, name: 'x' }, { port: 2 }] }),
  )
  expect([again.status, at(again.body, 'metadata', 'resourceVersion')]).toEqual([
    200,
    at(first.body, 'metadata', 'resourceVersion'),
  ])
  await server.merge(path, { spec: { replicas: 7 } })
  const less = await server.apply(
    path,
    'm1',
    server.widget(name, { size: '1Gi', map: { b: '2' }, ports: [{ port: 2, name: 'y' }] }),
  )
  expect(at(less.body, 'spec')).toMatchObject({ map: { b: '2' }, ports: [{ port: 2, name: 'y' }], replicas: 7 })
  const applied = ((at(less.body, 'metadata', 'managedFields') ?? []) as Fields[]).filter(
    (entry) => entry.operation === 'Apply',
  )
  expect(applied).toMatchObject([{ manager: 'm1', apiVersion: `${GROUP}/v1`, fieldsType: 'FieldsV1' }])
  expect(at(applied, 0, 'fieldsV1', 'f:spec', 'f:map')).toEqual({ 'f:b': {} })
}

cases['server-side apply: what has become empty loses its items'] = async (server) => {
  const name = server.name()
  const path = `${server.widgets}/${name}`
  await server.apply(path, 'm1', server.widget(name, { size: '1', map: { a: '1' }, ports: [{ port: 1 }], tags: ['a'] }))
  const less = await server.apply(path, 'm1', server.widget(name, { size: '1', map: {}, ports: [], tags: [] }))
  expect(at(less.body, 'spec')).toEqual({ size: '1', map: {}, mode: 'Fast', replicas: 3, nested: { retries: 5 } })
}

cases['server-side apply: conflicts, force, and what it refuses'] = async (server) => {
  const name = server.name()
  const path = `${server.widgets}/${name}`
  await server.apply(path, 'm1', server.widget(name, { size: '1Gi', map: { a: '1' } }))
  const conflict = await server.apply(path, 'm2', server.widget(name, { size: '2Gi', map: { a: '2' } }))
  expect([conflict.status, conflict.body.reason]).toEqual([409, 'Conflict'])
  expect(messageOf(conflict)).toMatch(/^Apply failed with 2 conflicts: conflicts with "m1":\n/)
  expect(causesOf(conflict)).toEqual(['.spec.map.a: conflict with "m1"', '.spec.size: conflict with "m1"'])
  const forced = await server.apply(path, 'm2', server.widget(name, { size: '2Gi' }), '&force=true')
  expect([forced.status, at(forced.body, 'spec', 'size')]).toEqual([200, '2Gi'])
  const anonymous = await server.ask('PATCH', path, { body: server.widget(name), type: 'application/apply-patch+yaml' })
  expect([anonymous.status, messageOf(anonymous)]).toEqual([
    422,
    'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
  ])
  const unknown = await server.apply(path, 'm1', server.widget(name, { size: '2Gi', bogus: 1 }), '&force=true')
  expect([unknown.status, messageOf(unknown)]).toEqual([
    500,
    `failed to create typed patch object (/${name}; ${GROUP}/v1, Kind=Widget): .spec.bogus: field not declared in schema`,
  ])
  const managed = await server.apply(
    path,
    'm1',
    server.widget(name, { size: '1' }, { managedFields: [{ manager: 'x' }] }),
  )
  expect([managed.status, messageOf(managed)]).toEqual([400, 'metadata.managedFields must be nil'])
}

// ---- subresources ---------------------------------------------------------------------------------------------

cases['status: changes the status alone, and does not count for the generation'] = async (server) => {
  const { path } = await server.make()
  const patched = await server.merge(`${path}/status`, {
    status: { replicas: 2, selector: 'a=b', bogus: 1 },
    spec: { size: '9Gi' },
  })
  expect([patched.status, patched.body.status, at(patched.body, 'spec', 'size')]).toEqual([
    200,
    { replicas: 2, selector: 'a=b' },
    '1Gi',
  ])
  expect(at(patched.body, 'metadata', 'generation')).toBe(1)
  const main = await server.merge(path, { status: { replicas: 9 } })
  expect(main.body.status).toEqual({ replicas: 2, selector: 'a=b' })
  expect((await server.merge(`${path}/status`, { status: { selector: 1 } })).status).toBe(422)
}

cases['scale: reads, changes and refuses like the object'] = async (server) => {
  const { path, name } = await server.make()
  await server.merge(`${path}/status`, { status: { replicas: 2, selector: 'a=b' } })
  const { body } = await server.ask('GET', `${path}/scale`)
  expect(body).toMatchObject({
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: { name },
    spec: { replicas: 3 },
    status: { replicas: 2, selector: 'a=b' },
  })
  expect((await server.merge(`${path}/scale`, { spec: { replicas: 4 } })).status).toBe(200)
  const put = await server.ask('PUT', `${path}/scale`, {
    body: { metadata: { name, namespace: server.namespace }, spec: { replicas: 5 } },
  })
  expect([put.status, at(put.body, 'spec', 'replicas')]).toEqual([200, 5])
  const large = await server.merge(`${path}/scale`, { spec: { replicas: 44 } })
  expect([large.status, messageOf(large)]).toEqual([
    422,
    `Widget.${GROUP} "${name}" is invalid: spec.replicas: Invalid value: 44: spec.replicas in body should be less than or equal to 9`,
  ])
}

/** A pod that no machine takes, with a status as if it ran. */
async function pretendedPod(server: Server, name: string, labels: Fields): Promise<string> {
  const spec = { schedulerName: 'nobody', containers: [{ name: 'node', image: 'lokikv:dev' }] }
  const made = await server.ask('POST', `${server.core}/pods`, {
    body: { apiVersion: 'v1', kind: 'Pod', metadata: { name, labels }, spec },
  })
  expect(made.status).toBe(201)
  const conditions = [{ type: 'Ready', status: 'True' }]
  const running = await server.merge(`${server.core}/pods/${name}/status`, { status: { phase: 'Running', conditions } })
  expect(running.status).toBe(200)
  return `${server.core}/pods/${name}`
}

cases['eviction honours the disruption budget: 429, then allowed'] = async (server) => {
  const budgets = `/apis/policy/v1/namespaces/${server.namespace}/poddisruptionbudgets`
  const [first, second] = [
    await pretendedPod(server, 'evicted-0', { app: 'evicted' }),
    await pretendedPod(server, 'evicted-1', { app: 'evicted' }),
  ]
  const spec = { minAvailable: 2, selector: { matchLabels: { app: 'evicted' } } }
  await server.ask('POST', budgets, {
    body: { apiVersion: 'policy/v1', kind: 'PodDisruptionBudget', metadata: { name: 'evicted' }, spec },
  })
  await until(
    'the budget is counted',
    async () => at((await server.ask('GET', `${budgets}/evicted`)).body, 'status', 'currentHealthy') === 2,
  )
  const eviction = {
    apiVersion: 'policy/v1',
    kind: 'Eviction',
    metadata: { name: 'evicted-0', namespace: server.namespace },
  }
  const refused = await server.ask('POST', `${first}/eviction`, { body: eviction })
  expect([refused.status, refused.body.reason, messageOf(refused)]).toEqual([
    429,
    'TooManyRequests',
    "Cannot evict pod as it would violate the pod's disruption budget.",
  ])
  expect(at(refused.body, 'details', 'causes')).toEqual([
    { reason: 'DisruptionBudget', message: 'The disruption budget evicted needs 2 healthy pods and has 2 currently' },
  ])
  await server.merge(`${budgets}/evicted`, { spec: { minAvailable: 1 } })
  await until(
    'one disruption is allowed',
    async () => at((await server.ask('GET', `${budgets}/evicted`)).body, 'status', 'disruptionsAllowed') === 1,
  )
  const allowed = await server.ask('POST', `${first}/eviction`, { body: eviction })
  expect([allowed.status, allowed.body.status]).toEqual([201, 'Success'])
  expect((await server.ask('GET', first)).status).toBe(404)
  await server.ask('DELETE', `${second}?gracePeriodSeconds=0`)
}

// ---- delete ---------------------------------------------------------------------------------------------------

cases['delete: preconditions, success, 404'] = async (server) => {
  const { path, name, object } = await server.make()
  const uid = String(at(object, 'metadata', 'uid'))
  const options = (preconditions: Fields): Ask => ({ body: { kind: 'DeleteOptions', apiVersion: 'v1', preconditions } })
  const other = await server.ask('DELETE', path, options({ uid: 'x' }))
  expect([other.status, messageOf(other)]).toEqual([
    409,
    `Operation cannot be fulfilled on Widget.${GROUP} "${name}": the UID in the precondition (x) does not match the UID in record (${uid}). The object might have been deleted and then recreated`,
  ])
  expect((await server.ask('DELETE', path, options({ resourceVersion: '1' }))).status).toBe(409)
  expect((await server.ask('DELETE', `${path}?dryRun=All`)).status).toBe(200)
  const done = await server.ask('DELETE', path, options({ uid }))
  expect(done.body).toEqual({
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    details: { name, group: GROUP, kind: 'widgets', uid },
  })
  const gone = await server.ask('DELETE', path)
  expect([gone.status, messageOf(gone)]).toEqual([404, `widgets.${GROUP} "${name}" not found`])
}

cases['finalizers hold a deletion, and no new ones may come'] = async (server) => {
  const { path } = await server.make({ size: '1' }, { finalizers: ['lokikv.dev/x'] })
  const marked = await server.ask('DELETE', path)
  expect([
    marked.status,
    at(marked.body, 'metadata', 'deletionGracePeriodSeconds'),
    at(marked.body, 'metadata', 'generation'),
  ]).toEqual([200, 0, 2])
  const more = await server.merge(path, { metadata: { finalizers: ['lokikv.dev/x', 'lokikv.dev/y'] } })
  expect([more.status, messageOf(more)]).toEqual([
    422,
    expect.stringContaining(
      'metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"lokikv.dev/y"}',
    ),
  ])
  expect((await server.merge(path, { metadata: { finalizers: null } })).status).toBe(200)
  expect((await server.ask('GET', path)).status).toBe(404)
}

cases['what is owned goes with its owner, unless it is orphaned'] = async (server) => {
  const dependent = async (owner: { name: string; object: Fields }): Promise<string> => {
    const uid = at(owner.object, 'metadata', 'uid')
    const { path } = await server.make(
      { size: '1' },
      { ownerReferences: [{ apiVersion: `${GROUP}/v1`, kind: 'Widget', name: owner.name, uid }] },
    )
    return path
  }
  const [first, second] = [await server.make(), await server.make()]
  const [goes, stays] = [await dependent(first), await dependent(second)]
  await server.ask('DELETE', first.path)
  await server.ask('DELETE', `${second.path}?propagationPolicy=Orphan`)
  await until('the dependent is gone', async () => (await server.ask('GET', goes)).status === 404)
  await until('the owner is gone', async () => (await server.ask('GET', second.path)).status === 404)
  expect(at((await server.ask('GET', stays)).body, 'metadata', 'ownerReferences')).toBeUndefined()
}
