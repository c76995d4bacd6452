/**
 * What happened in a run, for people: messages, lost ones too, what became durable, crashes and starts, and what was
 * done to the world. A bounded number of notes is kept; words are made when somebody wants to read them.
 *
 * `text` gives one line for each; diagram.ts draws them.
 */
import type { Effect } from '../../src/consensus/events.ts'
import type { Configuration, LogRecord, NodeId } from '../../src/vocabulary.ts'

/** What a note at a node is about; the drawing has a sign for each. */
export type Mark = 'start' | 'crash' | 'pause' | 'resume' | 'durable' | 'decided' | 'leads' | 'other'

type Words = string | (() => string)

export type Note =
  /** `arrives`: when each copy comes to the other side; none: it is lost. */
  | {
      readonly kind: 'message'
      readonly at: number
      readonly from: NodeId
      readonly to: NodeId
      readonly message: Tagged
      readonly arrives: readonly number[]
    }
  | { readonly kind: 'node'; readonly at: number; readonly node: NodeId; readonly mark: Mark; readonly what: Words }
  /** The network, the operator, the end of the faults. */
  | { readonly kind: 'world'; readonly at: number; readonly what: Words }

/** A message or an effect. */
export interface Tagged {
  readonly kind: string
}

export const wordsOf = (what: Words): string => (typeof what === 'string' ? what : what())

export class Trace {
  /** Notes that are kept at least. */
  readonly #limit: number
  #notes: Note[] = []

  constructor(limit: number) {
    this.#limit = limit
  }

  add(note: Note): void {
    this.#notes.push(note)
    if (this.#notes.length > 2 * this.#limit) this.#notes.splice(0, this.#limit)
  }

  /** The last `count` notes, oldest first. */
  last(count: number): readonly Note[] {
    return count > 0 ? this.#notes.slice(-count) : []
  }

  text(count: number): string {
    return this.last(count).map(lineOf).join('\n')
  }
}

function lineOf(note: Note): string {
  const time = note.at.toFixed(1).padStart(9)
  switch (note.kind) {
    case 'world':
      return `${time}  ${wordsOf(note.what)}`
    case 'node':
      return `${time}  ${note.node} ${wordsOf(note.what)}`
    case 'message': {
      const fate = note.arrives.length === 0 ? ' LOST' : note.arrives.length > 1 ? ' DOUBLED' : ''
      return `${time}  ${note.from} -> ${note.to} ${describe(note.message)}${fate}`
    }
  }
}

export const describeBallot = (ballot: { configuration: number; n: number; node: number }): string =>
  `${ballot.configuration}.${ballot.n}.${ballot.node}`

/** A message or an effect on one line. */
export function describe(what: Tagged | Effect): string {
  const fields = Object.entries(what).map(([name, value]) => (name === 'kind' ? String(value) : field(name, value)))
  return fields.filter((part) => part !== '').join(' ')
}

function field(name: string, value: unknown): string {
  if (name === 'entries') {
    const entries = value as readonly { index: number; kind: string }[]
    const last = entries.at(-1)
    if (!last) return 'entries none'
    return `entries ${entries[0]!.index}…${last.index}${last.kind === 'stop-sign' ? ' stop-sign' : ''}`
  }
  if (typeof value === 'object' && value !== null && 'n' in value) return `${name} ${describeBallot(value as never)}`
  if (typeof value === 'object' && value !== null && 'voters' in value) {
    const { id, voters } = value as Configuration
    return `${name} ${id} {${voters.map((one) => one.id).join(' ')}}`
  }
  return `${name} ${Array.isArray(value) ? value.join(',') : String(value)}`
}

/** What a frame of the log says. */
export const describeRecords = (records: readonly LogRecord[]): string =>
  records.map((one) => describe(one).replace(/^entries entries/, 'entries')).join('; ')
