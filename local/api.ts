/**
 * The API server: HTTPS on the loopback address with a bearer token. It turns requests into verbs of the
 * registry and their outcomes into the JSON that Kubernetes answers. No request can bring it down: whatever a
 * handler throws becomes a Status.
 */
import { timingSafeEqual } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Server, createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Call } from './call.ts'
import {
  AGGREGATED,
  aggregated,
  apiGroup,
  apiGroupList,
  apiResourceList,
  apiVersions,
  groups,
  wantsAggregated,
} from './discovery.ts'
import { Failure, badRequest, unauthorized } from './failure.ts'
import type { Fields } from './objects.ts'
import { openApiDocument, openApiIndex } from './openapi.ts'
import type { Registry } from './registry.ts'
import { type Logs, serveResource } from './rest.ts'

export interface ApiOptions {
  readonly key: string
  readonly certificate: string
  readonly token: string
  /** 0: any free one. */
  readonly port: number
  readonly logs: Logs
}

/** Largest body of a request. */
const BODY_LIMIT_BYTES = 3 * 1024 * 1024

const VERSION: Fields = {
  major: '1',
  minor: '35',
  gitVersion: 'v1.35.0+lokikv',
  gitCommit: 'local',
  gitTreeState: 'clean',
  buildDate: '2026-01-01T00:00:00Z',
  goVersion: process.version,
  compiler: 'node',
  platform: `${process.platform}/${process.arch}`,
}

export class Api {
  readonly #registry: Registry
  readonly #options: ApiOptions
  readonly #server: Server
  readonly #streams = new Set<() => void>()

  constructor(registry: Registry, options: ApiOptions) {
    this.#registry = registry
    this.#options = options
    this.#server = createServer(
      { key: options.key, cert: options.certificate, keepAliveTimeout: 60_000, requestTimeout: 0 },
      (request, response) => {
        this.#serve(request, response).catch((error: unknown) => this.#refuse(response, error))
      },
    )
  }

  /** Starts to listen; gives the port. Rejects where the port is taken. */
  listen(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(this.#options.port, '127.0.0.1', () => {
        this.#server.off('error', reject)
        resolve((this.#server.address() as AddressInfo).port)
      })
    })
  }

  /** Ends watches and connections. */
  close(): Promise<void> {
    for (const stop of this.#streams) stop()
    return new Promise((resolve) => {
      this.#server.close(() => resolve())
      this.#server.closeAllConnections()
    })
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'https://localhost')
    const body = await readBody(request)
    if (!this.#authorized(request)) throw unauthorized()
    const accept = request.headers.accept ?? ''
    const answer = this.#document(url, accept)
    if (answer !== null && request.method === 'GET') {
      send(response, 200, answer.body, answer.type)
      return
    }
    const path = url.pathname.split('/').filter(Boolean).map(decoded)
    const [root, ...rest] = path
    const [group, version, segments] =
      root === 'api'
        ? ['', rest[0] ?? '', rest.slice(1)]
        : root === 'apis'
          ? [rest[0] ?? '', rest[1] ?? '', rest.slice(2)]
          : ['', '', []]
    if (segments.length === 0) {
      plainNotFound(response)
      return
    }
    const call: Call = {
      method: request.method ?? 'GET',
      group,
      version,
      segments,
      query: url.searchParams,
      accept,
      contentType: request.headers['content-type'] ?? '',
      userAgent: request.headers['user-agent'] ?? '',
      body,
    }
    serveResource(this.#registry, this.#options.logs, call, {
      json: (status, value, headers) => send(response, status, value, 'application/json', headers),
      notFound: () => plainNotFound(response),
      stream: (start) => {
        const stop = start(response)
        this.#streams.add(stop)
        response.on('close', () => this.#streams.delete(stop))
      },
    })
  }

  #authorized(request: IncomingMessage): boolean {
    const given = Buffer.from(request.headers.authorization ?? '')
    const wanted = Buffer.from(`Bearer ${this.#options.token}`)
    return given.length === wanted.length && timingSafeEqual(given, wanted)
  }

  #document(url: URL, accept: string): { body: unknown; type: string } | null {
    const resources = this.#registry.resources()
    const json = (body: unknown): { body: unknown; type: string } => ({ body, type: 'application/json' })
    const path = url.pathname.replace(/\/$/, '')
    switch (path) {
      case '/version':
        return json(VERSION)
      case '/healthz':
      case '/livez':
      case '/readyz':
        return { body: 'ok', type: 'text/plain; charset=utf-8' }
      case '/api':
        return wantsAggregated(accept)
          ? { body: aggregated(resources, true), type: AGGREGATED }
          : json(apiVersions(url.host))
      case '/apis':
        return wantsAggregated(accept)
          ? { body: aggregated(resources, false), type: AGGREGATED }
          : json(apiGroupList(resources))
      case '/openapi/v3':
        return json(openApiIndex(resources, String(resources.length)))
      default:
        return this.#groupDocument(path.split('/').filter(Boolean))
    }
  }

  #groupDocument(path: readonly string[]): { body: unknown; type: string } | null {
    const json = (body: unknown): { body: unknown; type: string } => ({ body, type: 'application/json' })
    const resources = this.#registry.resources()
    const described = path[0] === 'openapi' && path[1] === 'v3'
    const [root, ...rest] = described ? path.slice(2) : path
    const [group, version] = root === 'api' ? ['', rest[0]] : [rest[0] ?? '', rest[1]]
    if ((root !== 'api' && root !== 'apis') || rest.length !== (root === 'api' ? 1 : version === undefined ? 1 : 2))
      return null
    const versions = groups(resources).get(group)
    if (versions === undefined) return null
    if (version === undefined) return described ? null : json(apiGroup(group, versions.keys()))
    const own = versions.get(version)
    if (own === undefined) return null
    return json(described ? openApiDocument(group, version, resources) : apiResourceList(group, version, own))
  }

  #refuse(response: ServerResponse, error: unknown): void {
    const failure =
      error instanceof Failure
        ? error
        : new Failure(
            500,
            'InternalError',
            `Internal error occurred: ${error instanceof Error ? error.message : String(error)}`,
          )
    if (!(error instanceof Failure) && process.env.LOKIKV_LOCAL_DEBUG !== undefined) console.error(error)
    if (response.headersSent) response.destroy()
    else send(response, failure.code, failure.status(), 'application/json', failure.headers)
  }
}

/** A step of a path as it was meant; 400 where it cannot be read. */
function decoded(step: string): string {
  try {
    return decodeURIComponent(step)
  } catch {
    throw badRequest(`the path cannot be decoded: ${step}`)
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request) {
    size += (chunk as Buffer).length
    if (size > BODY_LIMIT_BYTES) {
      throw new Failure(413, 'RequestEntityTooLarge', `Request entity too large: limit is ${BODY_LIMIT_BYTES}`)
    }
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function send(
  response: ServerResponse,
  status: number,
  body: unknown,
  type: string,
  headers: Readonly<Record<string, string | string[]>> = {},
): void {
  const text = typeof body === 'string' ? body : `${JSON.stringify(body)}\n`
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-cache, private',
    ...headers,
  })
  response.end(text)
}

const plainNotFound = (response: ServerResponse): void =>
  send(response, 404, '404 page not found\n', 'text/plain; charset=utf-8')
