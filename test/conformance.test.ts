/* oxlint-disable vitest/no-standalone-expect, vitest/expect-expect, vitest/valid-title -- the cases are in a table */
/**
 * What the embedded control plane answers is what Kubernetes answers. Every case runs against the embedded one,
 * and, where KUBECONFIG_CONFORMANCE names a kubeconfig, against that API server too, with the same expectations:
 *
 *   KUBECONFIG_CONFORMANCE=~/.kube/config node_modules/.bin/vitest run test/conformance.test.ts
 *
 * (KUBECONFIG alone is not taken: nobody should find a namespace made in his cluster by `npm test`.) It makes a
 * namespace and a CustomResourceDefinition of its own and deletes them at the end.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { ControlPlane } from '../local/control-plane.ts'
import { reads } from './conformance-reads.ts'
import { Server, at, until } from './conformance-server.ts'
import { writes } from './conformance-writes.ts'

const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'
const NAME = 'widgets.conformance.lokikv.dev'
const definition = parse(readFileSync(join(import.meta.dirname, 'fixtures', 'conformance-crd.yaml'), 'utf8')) as unknown

async function prepare(server: Server): Promise<void> {
  const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: server.namespace } }
  expect((await server.ask('POST', '/api/v1/namespaces', { body: namespace })).status).toBe(201)
  await until('an earlier definition is gone', async () => {
    const { body } = await server.ask('GET', `${CRDS}/${NAME}`)
    return at(body, 'metadata', 'deletionTimestamp') === undefined
  })
  expect([201, 409]).toContain((await server.ask('POST', CRDS, { body: definition })).status)
  await until('the definition is served', async () => {
    const found = await server.ask('GET', `${server.widgets}?limit=1`)
    const described = await server.ask('GET', '/openapi/v3')
    return found.status === 200 && at(described.body, 'paths', 'apis/conformance.lokikv.dev/v1') !== undefined
  })
}

async function clear(server: Server): Promise<void> {
  await server.ask('DELETE', `${CRDS}/${NAME}`)
  await server.ask('DELETE', `/api/v1/namespaces/${server.namespace}`)
  await until('the namespace is gone', async () => {
    return (await server.ask('GET', `/api/v1/namespaces/${server.namespace}`)).status === 404
  })
}

function run(open: () => Promise<{ server: Server; close: () => Promise<void> }>): void {
  let opened: Awaited<ReturnType<typeof open>>
  beforeAll(async () => {
    opened = await open()
    await prepare(opened.server)
  })
  afterAll(async () => {
    await clear(opened.server)
    await opened.close()
  })
  for (const [name, body] of Object.entries({ ...writes, ...reads })) test(name, () => body(opened.server))
}

describe('the embedded control plane', () => {
  run(async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lokikv-conformance-'))
    const plane = await ControlPlane.open({ folder })
    await plane.serve(null)
    const close = async (): Promise<void> => {
      await plane.stop()
      rmSync(folder, { recursive: true })
    }
    return { server: new Server(plane.kubeconfig), close }
  })

  test('asks for its token: 401', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lokikv-conformance-'))
    const plane = await ControlPlane.open({ folder })
    await plane.serve(null)
    const { status, body } = await new Server(plane.kubeconfig).ask('GET', '/api/v1/namespaces', { anonymous: true })
    await plane.stop()
    rmSync(folder, { recursive: true })
    expect([status, body.reason, body.message]).toEqual([401, 'Unauthorized', 'Unauthorized'])
  })
})

const kubeconfig = process.env.KUBECONFIG_CONFORMANCE ?? ''
describe.skipIf(kubeconfig === '')(
  `the API server of KUBECONFIG_CONFORMANCE (${kubeconfig || 'not set: skipped'})`,
  () => {
    run(() => Promise.resolve({ server: new Server(kubeconfig), close: () => Promise.resolve() }))
  },
)
