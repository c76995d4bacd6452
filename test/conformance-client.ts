/**
 * The smallest client of a Kubernetes API server: a kubeconfig, one request at a time, and watches line by line.
 * The conformance test speaks through it, so that nothing but the server decides what comes back.
 */
import { readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { parse } from 'yaml'

export type Fields = Record<string, unknown>

export interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly text: string
  /** The body as JSON; an empty object where it is none. */
  readonly body: Fields
}

export interface Ask {
  readonly body?: unknown
  readonly type?: string
  readonly accept?: string
  readonly anonymous?: boolean
}

export interface WatchEvent {
  readonly type: string
  readonly object: Fields
}

export class Client {
  readonly #server: string
  readonly #tls: { ca?: Buffer | string; cert?: Buffer | string; key?: Buffer | string }
  readonly #token: string | undefined

  constructor(kubeconfig: string) {
    const config = parse(readFileSync(kubeconfig, 'utf8')) as {
      'current-context': string
      clusters: { name: string; cluster: Record<string, string> }[]
      users: { name: string; user: Record<string, string> }[]
      contexts: { name: string; context: { cluster: string; user: string } }[]
    }
    const context = config.contexts.find((each) => each.name === config['current-context'])!.context
    const cluster = config.clusters.find((each) => each.name === context.cluster)!.cluster
    const user = config.users.find((each) => each.name === context.user)!.user
    const bytes = (from: Record<string, string>, name: string): Buffer | undefined =>
      from[`${name}-data`] !== undefined
        ? Buffer.from(from[`${name}-data`]!, 'base64')
        : from[name] !== undefined
          ? readFileSync(from[name])
          : undefined
    this.#server = cluster.server!
    this.#token = user.token
    this.#tls = {}
    const [ca, cert, key] = [
      bytes(cluster, 'certificate-authority'),
      bytes(user, 'client-certificate'),
      bytes(user, 'client-key'),
    ]
    if (ca !== undefined) this.#tls.ca = ca
    if (cert !== undefined) this.#tls.cert = cert
    if (key !== undefined) this.#tls.key = key
  }

  #open(method: string, path: string, ask: Ask): Promise<IncomingMessage> {
    const payload =
      ask.body === undefined ? undefined : typeof ask.body === 'string' ? ask.body : JSON.stringify(ask.body)
    const headers: Record<string, string> = { accept: ask.accept ?? 'application/json' }
    if (payload !== undefined) {
      headers['content-type'] = ask.type ?? 'application/json'
      // Node.js frames the body of a DELETE only when it is told its length.
      headers['content-length'] = String(Buffer.byteLength(payload))
    }
    if (this.#token !== undefined && ask.anonymous !== true) headers.authorization = `Bearer ${this.#token}`
    const tls = ask.anonymous === true ? { ca: this.#tls.ca } : this.#tls
    return new Promise((resolve, reject) => {
      const sent = request(`${this.#server}${path}`, { method, headers, ...tls, agent: false }, resolve)
      sent.on('error', reject)
      sent.end(payload)
    })
  }

  async ask(method: string, path: string, ask: Ask = {}): Promise<Answer> {
    const response = await this.#open(method, path, ask)
    const chunks: Buffer[] = []
    for await (const chunk of response) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString()
    let body: Fields = {}
    try {
      body = JSON.parse(text) as Fields
    } catch {
      // A plain text answer is an answer too.
    }
    return { status: response.statusCode ?? 0, headers: response.headers, text, body }
  }

  /** Events of a watch until `enough` says so, the server ends it, or `most` milliseconds have passed. */
  async watch(
    path: string,
    enough: (events: WatchEvent[]) => boolean,
    ask: Ask = {},
    most = 10_000,
  ): Promise<WatchEvent[]> {
    const response = await this.#open('GET', path, ask)
    const events: WatchEvent[] = []
    const timer = setTimeout(() => response.destroy(), most)
    let rest = ''
    try {
      for await (const chunk of response) {
        rest += (chunk as Buffer).toString()
        const lines = rest.split('\n')
        rest = lines.pop()!
        for (const line of lines) if (line !== '') events.push(JSON.parse(line) as WatchEvent)
        if (enough(events)) break
      }
    } catch (error) {
      if (!response.destroyed) throw error
    } finally {
      clearTimeout(timer)
      response.destroy()
    }
    if (rest !== '' && events.length === 0) events.push({ type: 'NOT A WATCH', object: JSON.parse(rest) as Fields })
    return events
  }
}
