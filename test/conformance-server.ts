/* oxlint-disable vitest/no-standalone-expect -- these are parts of tests */
/**
 * One API server as the conformance cases see it: a namespace of its own, widgets in it, and short ways to ask.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { type Answer, type Ask, Client, type Fields } from './conformance-client.ts'

export const GROUP = 'conformance.lokikv.dev'

export type Case = (server: Server) => Promise<void>

export class Server {
  readonly client: Client
  readonly namespace = `conformance-${Math.random().toString(36).slice(2, 8)}`
  readonly widgets = `/apis/${GROUP}/v1/namespaces/${this.namespace}/widgets`
  readonly core = `/api/v1/namespaces/${this.namespace}`
  #names = 0

  constructor(kubeconfig: string) {
    this.client = new Client(kubeconfig)
  }

  ask(method: string, path: string, ask: Ask = {}): Promise<Answer> {
    return this.client.ask(method, path, ask)
  }

  name(): string {
    return `w${++this.#names}`
  }

  widget(name: string | undefined, spec: Fields | undefined = { size: '1Gi' }, metadata: Fields = {}): Fields {
    return { apiVersion: `${GROUP}/v1`, kind: 'Widget', metadata: { ...metadata, name }, spec }
  }

  /** Makes a widget and gives it with its path. */
  async make(
    spec: Fields = { size: '1Gi' },
    metadata: Fields = {},
  ): Promise<{ path: string; name: string; object: Fields }> {
    const name = this.name()
    const { status, body } = await this.ask('POST', this.widgets, { body: this.widget(name, spec, metadata) })
    expect(status).toBe(201)
    return { path: `${this.widgets}/${name}`, name, object: body }
  }

  merge(path: string, body: unknown): Promise<Answer> {
    return this.ask('PATCH', path, { body, type: 'application/merge-patch+json' })
  }

  apply(path: string, manager: string, body: unknown, query = ''): Promise<Answer> {
    return this.ask('PATCH', `${path}?fieldManager=${manager}${query}`, { body, type: 'application/apply-patch+yaml' })
  }
}

export const at = (value: unknown, ...path: (string | number)[]): unknown =>
  path.reduce<unknown>((current, step) => (current as Record<string | number, unknown> | undefined)?.[step], value)
export const messageOf = (answer: Answer): string => String(answer.body.message)
/** The causes of a 422, in no order of their own. */
export const causesOf = (answer: Answer): string[] =>
  ((at(answer.body, 'details', 'causes') ?? []) as Fields[])
    .map((cause) => `${String(cause.field)}: ${String(cause.message)}`)
    .sort()

export async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let turn = 0; turn < 300; turn++) {
    if (await holds()) return
    await sleep(100)
  }
  throw new Error(`never came true: ${what}`)
}

export const NOT_ALL =
  '<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation'
