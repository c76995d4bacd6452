/**
 * Decided entries that are no longer in memory, read from the log for nodes that lag. A node that hears nothing asks
 * again and again, and every answer is large: so one reading at a time for each of them, and of the questions that come
 * meanwhile only the newest waits.
 */
import type { Entry, LogIndex, NodeId } from './vocabulary.ts'

interface Question {
  readonly from: LogIndex
  readonly upTo: LogIndex
}

export interface ReadBackPorts {
  readonly read: (question: Question) => Promise<readonly Entry[]>
  readonly answer: (to: NodeId, from: LogIndex, entries: readonly Entry[]) => void
  /** Nothing is answered: who asked does so again, and somebody else. */
  readonly failed: (from: LogIndex, error: Error) => void
}

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
        (error: Error) => failed(question.from, error),
      )
      .finally(() => {
        const next = this.#reading.get(to)
        this.#reading.delete(to)
        if (next) this.#read(to, next)
      })
  }
}
