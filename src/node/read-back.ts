/**
 * Decided entries that are no longer in memory, read from the log for nodes that lag. A node that hears nothing asks
 * again and again, and every answer is large: so one reading at a time for each of them, and of the questions that come
 * meanwhile only the newest waits.
 *
 * What cannot be read, because it was let go of or is rotten, a checkpoint has, or will have soon: who asked is told.
 */
import type { Storage } from '../storage/storage.ts'
import { type Entry, type LogIndex, type NodeId, logIndex } from '../vocabulary.ts'

interface Question {
  readonly from: LogIndex
  readonly upTo: LogIndex
}

export interface ReadBackPorts {
  readonly read: (question: Question) => Promise<readonly Entry[]>
  readonly answer: (to: NodeId, from: LogIndex, entries: readonly Entry[]) => void
  /** It is answered as where nothing was found. */
  readonly failed: (from: LogIndex, error: Error) => void
}

/** Where a node goes on for which nothing was found at `from`: behind a checkpoint; at or below `from`: nowhere. */
export const goesOnAt = ({ first, checkpoint }: Pick<Storage, 'first' | 'checkpoint'>, from: LogIndex): LogIndex =>
  from < first ? first : logIndex((checkpoint?.index ?? 0) + 1)

export class ReadBack {
  readonly #ports: ReadBackPorts
  /** Whom something is read for, and what is to be read for them next. */
  readonly #reading = new Map<NodeId, Question | null>()

  constructor(ports: ReadBackPorts) {
    this.#ports = ports
  }

  ask(to: NodeId, question: Question): void {
    if (this.#reading.has(to)) this.#reading.set(to, question)
    else this.#read(to, question)
  }

  #read(to: NodeId, question: Question): void {
    const { read, answer, failed } = this.#ports
    this.#reading.set(to, null)
    read(question)
      .then(
        (entries) => answer(to, question.from, entries),
        (error: Error) => {
          failed(question.from, error)
          answer(to, question.from, [])
        },
      )
      .finally(() => {
        const next = this.#reading.get(to)
        this.#reading.delete(to)
        if (next) this.#read(to, next)
      })
  }
}
