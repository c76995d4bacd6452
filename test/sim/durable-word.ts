/**
 * What the storage of a node of the shell simulator has called durable, and what the node has said of it to others: that
 * nothing leaves before what it rests on is durable, and that a start gives everything back. It outlives the process.
 */
import assert from 'node:assert/strict'
import { lastIndex } from '../../src/consensus/log.ts'
import type { Message } from '../../src/consensus/messages.ts'
import {
  type Ballot,
  type LogRecord,
  type NodeId,
  type RecoveredLog,
  ZERO_BALLOT,
  compareBallots,
} from '../../src/vocabulary.ts'
import { DurableLog } from './durable-log.ts'
import { compareAccepted, compareEntries } from './start-compare.ts'

export class DurableWord {
  readonly #id: NodeId
  /** Handed to storage, and not called durable yet. */
  readonly #handed: LogRecord[] = []
  /** What was called durable. */
  log = new DurableLog()
  /** The largest ballot that this node has told anyone it promised. */
  #said: Ballot = ZERO_BALLOT
  /** The largest that it promised to another. */
  #promised: Ballot = ZERO_BALLOT
  /** Promises were lost once. */
  #hasForgotten = false

  constructor(id: NodeId) {
    this.#id = id
  }

  handed(records: readonly LogRecord[]): void {
    this.#handed.push(...records)
  }

  /** The oldest of what was handed over. */
  durable(records: readonly LogRecord[]): void {
    this.#handed.splice(0, records.length)
    this.log.write(records)
    this.log.sync()
  }

  /** A start gives back everything that was called durable, and nothing that contradicts it. */
  compare(recovered: RecoveredLog, isDamaged: boolean): void {
    if (recovered.doubtfulFrom !== null) return
    const { state } = this.log.image
    const who = `node ${this.#id} starts:`
    assert(compareBallots(recovered.state.promise, state.promise) >= 0, `${who} a durable promise is lost`)
    const was = { log: this.log, handed: this.#handed, isDamaged }
    compareAccepted(this.#id, who, was, recovered)
    compareEntries(this.#id, who, was, recovered)
  }

  /** The process begins with what was recovered. */
  begin(recovered: RecoveredLog): void {
    this.#handed.length = 0
    this.log = new DurableLog(recovered.state, recovered.first, recovered.entries)
  }

  /** The replica that was made of it is bound by this promise. */
  remembers(promise: Ballot, promiseLost: boolean): void {
    this.#hasForgotten ||= promiseLost
    const isKept = promiseLost || compareBallots(promise, this.#said) >= 0
    assert(isKept, `node ${this.#id} has forgotten a promise`)
    // Nobody rests on what it had promised to itself, as a candidate, and has forgotten.
    if (promiseLost) this.#said = this.#promised
    if (compareBallots(promise, this.#said) > 0) this.#said = promise
  }

  /** What a message says of this node's log must be on its disk when it leaves. Null: it is; otherwise what is wrong. */
  whatIsWrong(message: Message): string | null {
    const { state, log } = this.log.image
    if (message.kind === 'promise' || message.kind === 'prepare') {
      const isDurable = compareBallots(state.promise, message.ballot) >= 0
      if (!isDurable) return `a ${message.kind} leaves before it is durable`
      // Of a later configuration it may have forgotten all: what was decided in this one, others hold.
      const isEarlier = this.#hasForgotten && message.ballot.configuration < this.#promised.configuration
      if (message.kind === 'promise' && !isEarlier && compareBallots(message.ballot, this.#promised) < 0) {
        return 'a promise is given below one that was given'
      }
      if (compareBallots(message.ballot, this.#said) > 0) this.#said = message.ballot
      const isLarger = compareBallots(message.ballot, this.#promised) > 0
      if (message.kind === 'promise' && isLarger) this.#promised = message.ballot
    } else if (message.kind === 'accepted') {
      const isDurable = compareBallots(state.acceptedBallot, message.ballot) === 0 && lastIndex(log) >= message.index
      if (!isDurable) return `accepted ${message.index} before it is durable`
    }
    return null
  }
}
