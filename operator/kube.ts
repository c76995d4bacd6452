/**
 * The Kubernetes API as the operator uses it: plain REST over HTTPS, and a watch that never ends by itself. The
 * only importer of @kubernetes/client-node, which finds the cluster, its certificates and the credentials.
 *
 * Every request has a time limit and every answer a size limit. Each watch lists first, follows from there, and
 * lists again when the server has closed it, has forgotten the version (410) or does not answer; its callbacks
 * only ever hand over a key, what is acted upon is read afresh.
 */
import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import { KubeConfig } from '@kubernetes/client-node'
import type { KubeObject } from './resource.ts'

export const FIELD_MANAGER = 'lokikv-operator'
const REQUEST_TIMEOUT_MILLISECONDS = 15_000
const ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
const WATCH_SECONDS = 300
const PAUSE_LEAST_MILLISECONDS = 200
const PAUSE_MOST_MILLISECONDS = 10_000
const NAMESPACE_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/namespace'

/** The paths of the kinds that are used. A namespace of null means all of them. */
const RESOURCES = {
  LokiCluster: ['/apis/lokikv.dev/v1alpha1', 'lokiclusters'],
  StatefulSet: ['/apis/apps/v1', 'statefulsets'],
  PodDisruptionBudget: ['/apis/policy/v1', 'poddisruptionbudgets'],
  Lease: ['/apis/coordination.k8s.io/v1', 'leases'],
  Pod: ['/api/v1', 'pods'],
  PersistentVolumeClaim: ['/api/v1', 'persistentvolumeclaims'],
  Service: ['/api/v1', 'services'],
  ServiceAccount: ['/api/v1', 'serviceaccounts'],
  Secret: ['/api/v1', 'secrets'],
  ConfigMap: ['/api/v1', 'configmaps'],
  Event: ['/api/v1', 'events'],
} as const

export type Kind = keyof typeof RESOURCES

export function pathOf(kind: Kind, namespace: string | null, name?: string, subresource?: string): string {
  const [group, plural] = RESOURCES[kind]
  const place = namespace === null ? '' : `/namespaces/${namespace}`
  return [group + place, plural, name, subresource].filter((part) => part !== undefined).join('/')
}

/** An answer of the API server that is not 2xx. `status` 0: there was no answer. */
export class ApiError extends Error {
  override name = 'ApiError'
  readonly status: number
  readonly reason: string

  constructor(status: number, reason: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.status = status
    this.reason = reason
  }
}

export const isApiError = (error: unknown, ...statuses: number[]): error is ApiError =>
  error instanceof ApiError && statuses.includes(error.status)

export interface WatchEvent {
  readonly type: string
  readonly object: KubeObject
}

interface RequestOptions {
  readonly body?: unknown
  readonly contentType?: string
  readonly query?: Readonly<Record<string, string>>
}

/** What a server-side apply, a create or a read gives back. */
export type Stored = KubeObject & {
  readonly metadata: KubeObject['metadata'] & { readonly uid: string; readonly resourceVersion: string }
}

export class Kube {
  readonly #config = new KubeConfig()
  readonly namespace: string
  #agent: http.Agent | null = null
  #agentKey = ''

  /** `kubeconfig`: a file; null: KUBECONFIG, the service account of the pod, or ~/.kube/config, whichever there is. */
  constructor(kubeconfig: string | null) {
    if (kubeconfig === null) this.#config.loadFromDefault()
    else this.#config.loadFromFile(kubeconfig)
    this.namespace =
      ownNamespace() ?? this.#config.getContextObject(this.#config.getCurrentContext())?.namespace ?? 'default'
  }

  get server(): string {
    const cluster = this.#config.getCurrentCluster()
    if (!cluster) throw new Error('no Kubernetes cluster: set KUBECONFIG or give --kubeconfig')
    return cluster.server
  }

  async get<T = Stored>(kind: Kind, namespace: string, name: string): Promise<T | null> {
    try {
      return (await this.#request('GET', pathOf(kind, namespace, name))) as T
    } catch (error) {
      if (isApiError(error, 404)) return null
      throw error
    }
  }

  async list<T>(kind: Kind, namespace: string | null, labelSelector: string): Promise<readonly T[]> {
    const answer = (await this.#request('GET', pathOf(kind, namespace), { query: { labelSelector } })) as {
      items?: T[]
    }
    return answer.items ?? []
  }

  /** POST; 409 if there is one already. */
  async create(object: KubeObject): Promise<Stored> {
    const path = pathOf(object.kind as Kind, object.metadata.namespace)
    return (await this.#request('POST', path, { body: object, query: { fieldManager: FIELD_MANAGER } })) as Stored
  }

  /** Server-side apply, forced: the fields in `object` are ours. */
  async apply(object: KubeObject): Promise<Stored> {
    return (await this.#request('PATCH', pathOf(object.kind as Kind, object.metadata.namespace, object.metadata.name), {
      body: object,
      contentType: 'application/apply-patch+yaml',
      query: { fieldManager: FIELD_MANAGER, force: 'true' },
    })) as Stored
  }

  /** PUT with the resource version in the object: 409 if it has changed. */
  async replace(object: KubeObject): Promise<Stored> {
    const path = pathOf(object.kind as Kind, object.metadata.namespace, object.metadata.name)
    return (await this.#request('PUT', path, { body: object, query: { fieldManager: FIELD_MANAGER } })) as Stored
  }

  /** JSON merge patch. A resource version in `patch.metadata` makes it conditional: 409. */
  async merge(kind: Kind, namespace: string, name: string, patch: unknown, subresource?: string): Promise<Stored> {
    return (await this.#request('PATCH', pathOf(kind, namespace, name, subresource), {
      body: patch,
      contentType: 'application/merge-patch+json',
      query: { fieldManager: FIELD_MANAGER },
    })) as Stored
  }

  /** 409 unless the object is the one that is meant; 404 is success. */
  async delete(kind: Kind, namespace: string, name: string, preconditions: { uid: string; resourceVersion?: string }) {
    const body = { apiVersion: 'v1', kind: 'DeleteOptions', preconditions, propagationPolicy: 'Background' }
    try {
      await this.#request('DELETE', pathOf(kind, namespace, name), { body })
    } catch (error) {
      if (!isApiError(error, 404)) throw error
    }
  }

  /** 429 if the disruption budget does not allow it now. */
  async evict(namespace: string, pod: string, uid: string): Promise<void> {
    const body = {
      apiVersion: 'policy/v1',
      kind: 'Eviction',
      metadata: { name: pod, namespace },
      deleteOptions: { preconditions: { uid } },
    }
    await this.#request('POST', pathOf('Pod', namespace, pod, 'eviction'), { body })
  }

  /**
   * Calls `onEvent` for every object that there is, then for every change, until `signal` ends it; a change may
   * be reported twice. `onError` hears of each interruption.
   */
  async watch(
    kind: Kind,
    namespace: string | null,
    labelSelector: string,
    onEvent: (event: WatchEvent) => void,
    onError: (error: unknown) => void,
    signal: AbortSignal,
  ): Promise<void> {
    let pause = PAUSE_LEAST_MILLISECONDS
    while (!signal.aborted) {
      try {
        const path = pathOf(kind, namespace)
        const list = (await this.#request('GET', path, { query: { labelSelector } })) as {
          metadata: { resourceVersion: string }
          items?: KubeObject[]
        }
        for (const object of list.items ?? []) onEvent({ type: 'ADDED', object })
        pause = PAUSE_LEAST_MILLISECONDS
        await this.#follow(path, labelSelector, list.metadata.resourceVersion, onEvent, signal)
      } catch (error) {
        if (signal.aborted) return
        onError(error)
        await sleep(pause * (0.5 + Math.random()), signal)
        pause = Math.min(pause * 2, PAUSE_MOST_MILLISECONDS)
      }
    }
  }

  /** Watches from a version on, again and again, until an error or an end that needs a new list. */
  async #follow(
    path: string,
    labelSelector: string,
    from: string,
    onEvent: (event: WatchEvent) => void,
    signal: AbortSignal,
  ): Promise<void> {
    let resourceVersion = from
    while (!signal.aborted) {
      const query = {
        watch: 'true',
        allowWatchBookmarks: 'true',
        timeoutSeconds: String(WATCH_SECONDS),
        labelSelector,
        resourceVersion,
      }
      await this.#stream(path, query, signal, (line) => {
        const event = JSON.parse(line) as WatchEvent
        if (event.type === 'ERROR') {
          const status = event.object as unknown as { code?: number; reason?: string; message?: string }
          throw new ApiError(status.code ?? 0, status.reason ?? 'WatchError', status.message ?? 'the watch has failed')
        }
        resourceVersion = event.object.metadata.resourceVersion ?? resourceVersion
        if (event.type !== 'BOOKMARK') onEvent(event)
      })
      // A server that ends each watch at once must not be asked in a tight loop.
      await sleep(PAUSE_LEAST_MILLISECONDS, signal)
    }
  }

  async #options(method: string, path: string, options: RequestOptions): Promise<[URL, https.RequestOptions]> {
    const url = new URL(this.server.replace(/\/$/, '') + path)
    for (const [name, value] of Object.entries(options.query ?? {})) if (value !== '') url.searchParams.set(name, value)
    const request: https.RequestOptions = {}
    await this.#config.applyToHTTPSOptions(request)
    // Connections are kept; certificates that were renewed on disk get a new agent.
    const { ca, cert, key, rejectUnauthorized, servername } = request
    const agentKey = JSON.stringify([ca, cert, key, rejectUnauthorized, servername])
    if (this.#agent === null || agentKey !== this.#agentKey) {
      this.#agent?.destroy()
      const secure = { ca, cert, key, rejectUnauthorized, servername }
      const present = Object.fromEntries(Object.entries(secure).filter(([, value]) => value !== undefined))
      this.#agent =
        url.protocol === 'http:'
          ? new http.Agent({ keepAlive: true })
          : new https.Agent({ keepAlive: true, ...present })
      this.#agentKey = agentKey
    }
    const given = request.headers as http.OutgoingHttpHeaders | undefined
    const headers: http.OutgoingHttpHeaders = { accept: 'application/json', ...given }
    if (options.body !== undefined) headers['content-type'] = options.contentType ?? 'application/json'
    return [url, { ...request, method, headers, agent: this.#agent }]
  }

  async #request(method: string, path: string, options: RequestOptions = {}): Promise<unknown> {
    const [url, request] = await this.#options(method, path, options)
    const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MILLISECONDS)
    const response = await open(url, { ...request, signal }, options.body)
    return parseAnswer(response.statusCode ?? 0, await readAll(response))
  }

  async #stream(path: string, query: Record<string, string>, signal: AbortSignal, onLine: (line: string) => void) {
    const [url, request] = await this.#options('GET', path, { query })
    const quiet = AbortSignal.timeout((WATCH_SECONDS + 30) * 1000)
    const response = await open(url, { ...request, signal: AbortSignal.any([signal, quiet]) }, undefined)
    if (response.statusCode !== 200) parseAnswer(response.statusCode ?? 0, await readAll(response))
    response.setEncoding('utf8')
    let rest = ''
    try {
      for await (const chunk of response) {
        const lines = (rest + String(chunk)).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) if (line.trim() !== '') onLine(line)
        if (rest.length > ANSWER_LIMIT_BYTES) throw new ApiError(0, 'TooLarge', 'a watch event is too large')
      }
    } finally {
      response.destroy()
    }
  }
}

function ownNamespace(): string | null {
  if (process.env.POD_NAMESPACE) return process.env.POD_NAMESPACE
  try {
    return readFileSync(NAMESPACE_FILE, 'utf8').trim()
  } catch {
    return null
  }
}

function open(url: URL, options: https.RequestOptions, body: unknown): Promise<http.IncomingMessage> {
  const text = body === undefined ? undefined : JSON.stringify(body)
  // Node sends the body of a DELETE without its length unless it is told: the preconditions would be lost.
  const length = text === undefined ? {} : { 'content-length': Buffer.byteLength(text) }
  const headers = { ...(options.headers as http.OutgoingHttpHeaders | undefined), ...length }
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'http:' ? http : https).request(url, { ...options, headers }, resolve)
    request.once('error', (error) => {
      reject(
        new ApiError(0, 'NoAnswer', `${options.method ?? 'GET'} ${url.pathname}: ${error.message}`, { cause: error }),
      )
    })
    request.end(text)
  })
}

async function readAll(response: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of response) {
      bytes += (chunk as Buffer).length
      if (bytes > ANSWER_LIMIT_BYTES) throw new ApiError(0, 'TooLarge', 'an answer of the API server is too large')
      chunks.push(chunk as Buffer)
    }
  } catch (error) {
    if (error instanceof ApiError) throw error
    throw new ApiError(0, 'NoAnswer', `the API server broke off: ${String(error)}`, { cause: error })
  }
  return Buffer.concat(chunks).toString('utf8')
}

function parseAnswer(status: number, text: string): unknown {
  let answer: { reason?: string; message?: string } = {}
  try {
    answer = JSON.parse(text) as typeof answer
  } catch {
    answer = { message: text.slice(0, 1000) }
  }
  if (status >= 200 && status < 300) return answer
  throw new ApiError(status, answer.reason ?? `Http${status}`, answer.message ?? `HTTP status ${status}`)
}

/** Resolves after the time, or at once when `signal` ends. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve()
    const timer = setTimeout(done, milliseconds)
    function done(): void {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    signal?.addEventListener('abort', done)
  })
}
