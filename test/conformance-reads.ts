/* oxlint-disable vitest/no-standalone-expect -- these are parts of tests */
/**
 * Conformance of what reads: discovery, get, lists and their pages, selectors, tables, watches, and the objects
 * that controllers make. Run by conformance.test.ts; every expectation was answered by Kubernetes 1.36.
 */
import { expect } from 'vitest'
import type { Answer, Fields, WatchEvent } from './conformance-client.ts'
import { type Case, GROUP, type Server, at, messageOf, until } from './conformance-server.ts'

export const reads: Record<string, Case> = {}
const cases = reads

const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json'
const namesOf = (answer: Answer): unknown[] =>
  ((answer.body.items ?? []) as Fields[]).map((item) => at(item, 'metadata', 'name'))

/** Widgets with a label of their own, so that other cases do not count. */
async function labelled(server: Server, count: number): Promise<{ selector: string; names: string[] }> {
  const set = server.name()
  const names: string[] = []
  for (let index = 0; index < count; index++) {
    const { name } = await server.make({ size: '1Gi', replicas: index }, { labels: { set, index: String(index) } })
    names.push(name)
  }
  return { selector: `labelSelector=set%3D${set}`, names: names.sort() }
}

cases['discovery: aggregated, and group by group'] = async (server) => {
  const accept = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList'
  const all = await server.ask('GET', '/apis', { accept })
  expect(all.headers['content-type']).toBe(accept)
  const group = ((all.body.items ?? []) as Fields[]).find((item) => at(item, 'metadata', 'name') === GROUP)
  expect(at(group, 'versions', 0, 'resources', 0)).toEqual({
    resource: 'widgets',
    responseKind: { group: GROUP, version: 'v1', kind: 'Widget' },
    scope: 'Namespaced',
    singularResource: 'widget',
    verbs: expect.arrayContaining(['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch']),
    shortNames: ['wd'],
    subresources: expect.arrayContaining([
      {
        subresource: 'status',
        responseKind: { group: GROUP, version: 'v1', kind: 'Widget' },
        verbs: ['get', 'patch', 'update'],
      },
      {
        subresource: 'scale',
        responseKind: { group: 'autoscaling', version: 'v1', kind: 'Scale' },
        verbs: ['get', 'patch', 'update'],
      },
    ]),
  })
  const plain = await server.ask('GET', `/apis/${GROUP}/v1`)
  expect(plain.body).toMatchObject({ kind: 'APIResourceList', groupVersion: `${GROUP}/v1` })
  expect((at(plain.body, 'resources') as { name: string }[]).map((each) => each.name).sort()).toEqual([
    'widgets',
    'widgets/scale',
    'widgets/status',
  ])
  const listed = await server.ask('GET', '/apis')
  expect((at(listed.body, 'groups') as Fields[]).map((each) => each.name)).toEqual(
    expect.arrayContaining(['apps', 'policy', GROUP]),
  )
  expect(at((await server.ask('GET', '/api')).body, 'versions')).toEqual(['v1'])
}

cases['OpenAPI v3 names the schema and the fieldValidation of PATCH'] = async (server) => {
  const index = await server.ask('GET', '/openapi/v3')
  const document = await server.ask('GET', String(at(index.body, 'paths', `apis/${GROUP}/v1`, 'serverRelativeURL')))
  const schemas = Object.values(at(document.body, 'components', 'schemas') as Fields)
  const kinds = schemas.flatMap((schema) => (at(schema, 'x-kubernetes-group-version-kind') ?? []) as Fields[])
  expect(kinds).toContainEqual({ group: GROUP, version: 'v1', kind: 'Widget' })
  const patch = at(document.body, 'paths', `/apis/${GROUP}/v1/namespaces/{namespace}/widgets/{name}`, 'patch')
  expect(at(patch, 'x-kubernetes-group-version-kind')).toEqual({ group: GROUP, version: 'v1', kind: 'Widget' })
  expect((at(patch, 'parameters') as Fields[]).map((parameter) => parameter.name)).toContain('fieldValidation')
}

cases['what is not there: 404, with a Status for objects and plain text for paths'] = async (server) => {
  const object = await server.ask('GET', `${server.widgets}/zz`)
  expect([object.status, object.body.reason, messageOf(object)]).toEqual([
    404,
    'NotFound',
    `widgets.${GROUP} "zz" not found`,
  ])
  for (const path of [
    server.widgets.replace('widgets', 'gadgets'),
    '/apis/nope.dev/v1',
    '/apis/nope.dev/v1/things',
    '/nope',
  ]) {
    const plain = await server.ask('GET', path)
    expect([plain.status, plain.text]).toEqual([404, '404 page not found\n'])
  }
}

cases['lists: selectors, pages of one moment, refusals'] = async (server) => {
  const { selector, names } = await labelled(server, 5)
  const list = (query: string): Promise<Answer> => server.ask('GET', `${server.widgets}?${selector}${query}`)
  expect(namesOf(await list(''))).toEqual(names)
  const first = await list('&limit=2')
  expect([namesOf(first), first.body.kind]).toEqual([names.slice(0, 2), 'WidgetList'])
  const { object } = await server.make({ size: '1' }, { labels: { set: selector.split('%3D')[1], index: '9' } })
  const rest = await list(`&limit=9&continue=${String(at(first.body, 'metadata', 'continue'))}`)
  expect(namesOf(rest)).toEqual(names.slice(2))
  expect(at(rest.body, 'metadata', 'resourceVersion')).toBe(at(first.body, 'metadata', 'resourceVersion'))
  expect(namesOf(await list(`%2Cindex+in+(1,9)`))).toHaveLength(2)
  expect(namesOf(await list(`%2Cindex+notin+(1,9)`))).toHaveLength(4)
  expect(namesOf(await list(`%2C!index`))).toEqual([])
  expect(namesOf(await list(`&fieldSelector=metadata.name%3D${String(at(object, 'metadata', 'name'))}`))).toHaveLength(
    1,
  )
  const refusals: [string, number, string][] = [
    ['fieldSelector=spec.x%3D1', 400, 'field label not supported: spec.x'],
    ['labelSelector=a%20b', 400, "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"],
    ['limit=x', 400, 'strconv.ParseInt: parsing "x": invalid syntax'],
    [
      'resourceVersion=x',
      400,
      'invalid resource version: resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax',
    ],
  ]
  for (const [query, status, message] of refusals) {
    const refused = await server.ask('GET', `${server.widgets}?${query}`)
    expect([refused.status, messageOf(refused)]).toEqual([status, message])
  }
}

cases['tables: the columns of the definition, ages, priorities'] = async (server) => {
  const { path, name } = await server.make({ size: '1Gi', replicas: 2 })
  await server.merge(`${path}/status`, {
    status: {
      conditions: [
        { type: 'Other', status: 'False' },
        { type: 'Ready', status: 'True' },
      ],
    },
  })
  const { body } = await server.ask('GET', path, { accept: TABLE })
  expect(body).toMatchObject({ kind: 'Table', apiVersion: 'meta.k8s.io/v1' })
  const columns = (body.columnDefinitions as Fields[]).map((column) => [column.name, column.type, column.priority])
  expect(columns).toEqual([
    ['Name', 'string', 0],
    ['Replicas', 'integer', 0],
    ['Size', 'string', 1],
    ['Ready', 'string', 0],
    ['Age', 'date', 0],
  ])
  expect(at(body, 'rows', 0, 'cells')).toEqual([name, 2, '1Gi', 'True', expect.stringMatching(/^\d+s$/)])
  expect(at(body, 'rows', 0, 'object', 'kind')).toBe('PartialObjectMetadata')
  const pods = await server.ask('GET', `${server.core}/pods`, { accept: TABLE })
  expect((pods.body.columnDefinitions as Fields[]).map((column) => column.name)).toEqual([
    'Name',
    'Ready',
    'Status',
    'Restarts',
    'Age',
    'IP',
    'Node',
    'Nominated Node',
    'Readiness Gates',
  ])
  const metadata = await server.ask('GET', path, {
    accept: 'application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io',
  })
  expect([metadata.body.kind, at(metadata.body, 'metadata', 'name'), metadata.body.spec]).toEqual([
    'PartialObjectMetadata',
    name,
    undefined,
  ])
}

const told = (events: readonly WatchEvent[]): string[] =>
  events.map((event) => `${event.type} ${String(at(event.object, 'metadata', 'name'))}`)

cases['watch: from now, from a resource version, through a selector'] = async (server) => {
  const { selector, names } = await labelled(server, 2)
  const listed = await server.ask('GET', `${server.widgets}?${selector}`)
  const since = String(at(listed.body, 'metadata', 'resourceVersion'))
  await server.merge(`${server.widgets}/${names[0]}`, { spec: { replicas: 8 } })
  await server.merge(`${server.widgets}/${names[1]}`, { metadata: { labels: { set: 'other' } } })
  await server.ask('DELETE', `${server.widgets}/${names[0]}`)
  const path = `${server.widgets}?${selector}&watch=true`
  const events = await server.client.watch(`${path}&resourceVersion=${since}`, (seen) => seen.length >= 3)
  expect(told(events)).toEqual([`MODIFIED ${names[0]}`, `DELETED ${names[1]}`, `DELETED ${names[0]}`])
  const { name } = await server.make({ size: '1' }, { labels: { set: selector.split('%3D')[1] } })
  expect(told(await server.client.watch(path, (seen) => seen.length > 0))).toEqual([`ADDED ${name}`])
}

cases['watch: initial events end with a bookmark; old versions are gone with 410'] = async (server) => {
  const { selector, names } = await labelled(server, 2)
  const path = `${server.widgets}?${selector}&watch=true`
  const query = '&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true'
  const events = await server.client.watch(path + query, (seen) => seen.some((event) => event.type === 'BOOKMARK'))
  expect(events.map((event) => event.type)).toEqual(['ADDED', 'ADDED', 'BOOKMARK'])
  expect(told(events.slice(0, 2)).sort()).toEqual(names.map((name) => `ADDED ${name}`))
  expect(at(events[2], 'object', 'metadata', 'annotations')).toEqual({ 'k8s.io/initial-events-end': 'true' })
  const refused = await server.ask('GET', `${path}&sendInitialEvents=true`)
  expect(refused.body).toMatchObject({
    code: 422,
    message:
      'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan',
  })
  const [gone] = await server.client.watch(`${path}&resourceVersion=1`, (seen) => seen.length > 0)
  expect(gone).toMatchObject({ type: 'ERROR', object: { code: 410, reason: 'Expired' } })
  expect(at(gone, 'object', 'message')).toMatch(/^too old resource version: 1 \(\d+\)$/)
}

cases['watch as tables: columns come once'] = async (server) => {
  const { selector, names } = await labelled(server, 2)
  const events = await server.client.watch(`${server.widgets}?${selector}&watch=true`, (seen) => seen.length >= 2, {
    accept: TABLE,
  })
  expect(events.map((event) => String(at(event.object, 'rows', 0, 'cells', 0))).sort()).toEqual(names)
  expect(events.map((event) => at(event.object, 'columnDefinitions') !== null)).toEqual([true, false])
}

cases['a StatefulSet makes pods and claims, keeps the claims, and refuses a changed claim template'] = async (
  server,
) => {
  const sets = `/apis/apps/v1/namespaces/${server.namespace}/statefulsets`
  const claim = {
    metadata: { name: 'data' },
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
  }
  const set = {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name: 'set' },
    spec: {
      serviceName: 'set',
      replicas: 2,
      podManagementPolicy: 'Parallel',
      updateStrategy: { type: 'OnDelete' },
      selector: { matchLabels: { app: 'set' } },
      template: {
        metadata: { labels: { app: 'set' } },
        spec: { schedulerName: 'nobody', containers: [{ name: 'node', image: 'lokikv:dev' }] },
      },
      volumeClaimTemplates: [claim],
    },
  }
  expect((await server.ask('POST', sets, { body: set })).status).toBe(201)
  const pods = (): Promise<Answer> => server.ask('GET', `${server.core}/pods?labelSelector=app%3Dset`)
  await until('two pods', async () => namesOf(await pods()).length === 2)
  const [pod] = (await pods()).body.items as Fields[]
  expect(at(pod, 'metadata')).toMatchObject({
    name: 'set-0',
    labels: { app: 'set', 'statefulset.kubernetes.io/pod-name': 'set-0', 'apps.kubernetes.io/pod-index': '0' },
    ownerReferences: [
      { apiVersion: 'apps/v1', kind: 'StatefulSet', name: 'set', controller: true, blockOwnerDeletion: true },
    ],
  })
  expect(at(pod, 'spec')).toMatchObject({ hostname: 'set-0', subdomain: 'set' })
  expect(at(pod, 'spec', 'volumes')).toContainEqual({
    name: 'data',
    persistentVolumeClaim: { claimName: 'data-set-0' },
  })
  const grown = await server.merge(`${sets}/set`, {
    spec: { volumeClaimTemplates: [{ ...claim, metadata: { name: 'other' } }] },
  })
  expect([grown.status, messageOf(grown)]).toEqual([
    422,
    expect.stringContaining('updates to statefulset spec for fields other than'),
  ])
  await server.merge(`${sets}/set/scale`, { spec: { replicas: 1 } })
  await until('one pod', async () => namesOf(await pods()).join() === 'set-0')
  await until(
    'the status follows',
    async () => at((await server.ask('GET', `${sets}/set`)).body, 'status', 'replicas') === 1,
  )
  const claims = await server.ask('GET', `${server.core}/persistentvolumeclaims?labelSelector=app%3Dset`)
  expect(namesOf(claims)).toEqual(['data-set-0', 'data-set-1'])
  await server.ask('DELETE', `${sets}/set`, {
    body: { kind: 'DeleteOptions', apiVersion: 'v1', propagationPolicy: 'Background' },
  })
  await until('no pod', async () => namesOf(await pods()).length === 0)
}

cases['immutable objects say so'] = async (server) => {
  const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'fixed' }, immutable: true, data: { a: '1' } }
  expect((await server.ask('POST', `${server.core}/configmaps`, { body })).status).toBe(201)
  const refused = await server.merge(`${server.core}/configmaps/fixed`, { data: { a: '2' } })
  expect([refused.status, messageOf(refused)]).toEqual([
    422,
    'ConfigMap "fixed" is invalid: data: Forbidden: field is immutable when `immutable` is set',
  ])
  const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'secret' }, stringData: { a: 'b' } }
  const made = await server.ask('POST', `${server.core}/secrets`, { body: secret })
  expect([made.body.type, made.body.data, made.body.stringData]).toEqual(['Opaque', { a: 'Yg==' }, undefined])
}
