/** The client of the API server, against a small server on loopback: what is sent, what is understood, what is repeated. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ApiError, Kube } from '../operator/kube.ts'
import type { WatchEvent } from '../operator/kube.ts'

interface Seen {
  readonly method: string
  readonly url: string
  readonly contentType: string | undefined
  readonly body: string
}

let folder: string
let server: http.Server
let kube: Kube
let seen: Seen[]
let answer: (request: Seen, response: http.ServerResponse) => void

const json = (response: http.ServerResponse, status: number, body: unknown): void =>
  void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'lokikv-operator-'))
  seen = []
  answer = (_request, response) => json(response, 200, { metadata: {} })
  server = http.createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const entry = {
        method: request.method ?? '',
        url: request.url ?? '',
        contentType: request.headers['content-type'],
        body: Buffer.concat(chunks).toString(),
      }
      seen.push(entry)
      answer(entry, response)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const config = join(folder, 'kubeconfig')
  const { port } = server.address() as AddressInfo
  writeFileSync(
    config,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'here',
      contexts: [{ name: 'here', context: { cluster: 'here', user: 'me', namespace: 'shop' } }],
      clusters: [{ name: 'here', cluster: { server: `http://127.0.0.1:${port}`, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'me', user: { token: 'secret' } }],
    }),
  )
  kube = new Kube(config)
})

afterEach(() => {
  server.closeAllConnections()
  server.close()
  rmSync(folder, { recursive: true })
})

describe('the client of the API server', () => {
  test('a DELETE carries its preconditions, and the connection stays good', async () => {
    await kube.delete('Pod', 'shop', 'orders-0', { uid: 'u1' })
    await kube.evict('shop', 'orders-1', 'u2')
    await kube.delete('PersistentVolumeClaim', 'shop', 'wal-orders-0', { uid: 'u3', resourceVersion: '4' })
    expect(seen.map(({ method, url }) => `${method} ${url}`)).toEqual([
      'DELETE /api/v1/namespaces/shop/pods/orders-0',
      'POST /api/v1/namespaces/shop/pods/orders-1/eviction',
      'DELETE /api/v1/namespaces/shop/persistentvolumeclaims/wal-orders-0',
    ])
    expect(JSON.parse(seen[0]?.body ?? '')).toMatchObject({ preconditions: { uid: 'u1' } })
    expect(JSON.parse(seen[1]?.body ?? '')).toMatchObject({ deleteOptions: { preconditions: { uid: 'u2' } } })
    expect(JSON.parse(seen[2]?.body ?? '')).toMatchObject({ preconditions: { uid: 'u3', resourceVersion: '4' } })
  })

  test('patches name their kind, their manager and their force', async () => {
    await kube.apply({ apiVersion: 'v1', kind: 'Service', metadata: { name: 'orders', namespace: 'shop' } })
    await kube.merge('LokiCluster', 'shop', 'orders', { status: {} }, 'status')
    expect(seen.map(({ url, contentType }) => `${url} ${contentType}`)).toEqual([
      '/api/v1/namespaces/shop/services/orders?fieldManager=lokikv-operator&force=true application/apply-patch+yaml',
      '/apis/lokikv.dev/v1alpha1/namespaces/shop/lokiclusters/orders/status?fieldManager=lokikv-operator application/merge-patch+json',
    ])
  })

  test('refusals keep status, reason and message; what is not there is null or already deleted', async () => {
    answer = (_request, response) => json(response, 422, { reason: 'Invalid', message: 'no' })
    await expect(kube.get('Pod', 'shop', 'x')).rejects.toMatchObject({ status: 422, reason: 'Invalid', message: 'no' })
    answer = (_request, response) => json(response, 404, { reason: 'NotFound' })
    expect(await kube.get('Pod', 'shop', 'x')).toBeNull()
    await kube.delete('Pod', 'shop', 'x', { uid: 'u' })
    answer = (_request, response) => void response.writeHead(502).end('<html>')
    await expect(kube.get('Pod', 'shop', 'x')).rejects.toBeInstanceOf(ApiError)
    server.closeAllConnections()
    server.close()
    await expect(kube.get('Pod', 'shop', 'x')).rejects.toMatchObject({ status: 0, reason: 'NoAnswer' })
  })

  test('a watch lists, follows, and lists again when the server has forgotten', async () => {
    const pod = (name: string, resourceVersion: string) => ({ metadata: { name, namespace: 'shop', resourceVersion } })
    let watches = 0
    answer = (request, response) => {
      if (!request.url.includes('watch=true')) {
        return json(response, 200, { metadata: { resourceVersion: String(10 + watches) }, items: [pod('a', '5')] })
      }
      watches += 1
      response.writeHead(200)
      const write = (type: string, object: unknown) => response.write(`${JSON.stringify({ type, object })}\n`)
      if (watches === 1) {
        write('ADDED', pod('b', '11'))
        write('BOOKMARK', pod('', '12'))
        response.end()
      } else if (watches === 2) {
        write('ERROR', { code: 410, reason: 'Expired', message: 'too old' })
        response.end()
      } else write('DELETED', pod('b', '13'))
    }
    const events: string[] = []
    const errors: unknown[] = []
    const stop = new AbortController()
    const onEvent = ({ type, object }: WatchEvent) => {
      events.push(`${type} ${object.metadata.name}`)
      if (type === 'DELETED') stop.abort()
    }
    await kube.watch('Pod', null, 'a=b', onEvent, (error) => errors.push(error), stop.signal)
    expect(events).toEqual(['ADDED a', 'ADDED b', 'ADDED a', 'DELETED b'])
    expect(errors).toMatchObject([{ status: 410 }])
    const versions = seen
      .filter(({ url }) => url.includes('watch'))
      .map(({ url }) => new URL(url, 'http://x').searchParams.get('resourceVersion'))
    expect(versions).toEqual(['10', '12', '12'])
  })
})
