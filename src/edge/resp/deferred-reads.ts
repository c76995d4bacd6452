/**
 * Reads of one connection that could have been answered, but its client has enough to take, or one before them is not
 * answered. They are asked anew, in their order and a few at a time, when it has taken what there was: a reply costs
 * memory only once somebody wants it.
 * PURE.
 */
import { type Arguments, argumentBytes } from '../../machine/reply.ts'

interface Deferred {
  readonly tag: number
  readonly args: Arguments
}

/** So many are asked at a time: what they answer may be too much again. */
const ASKED_AT_A_TIME = 64

export class DeferredReads {
  #reads: Deferred[] = []
  /** Of their arguments. */
  bytes = 0

  get size(): number {
    return this.#reads.length
  }

  add(tag: number, args: Arguments): void {
    this.#reads.push({ tag, args })
    this.bytes += argumentBytes(args)
  }

  /** The next ones to ask, where `asked` others are on their way. `ask`: false, it was not taken; then that is all. */
  askAgain(asked: number, ask: (tag: number, args: Arguments) => boolean): void {
    if (this.#reads.length === 0) return
    this.#reads.sort((a, b) => a.tag - b.tag)
    let count = 0
    while (asked + count < ASKED_AT_A_TIME && count < this.#reads.length) {
      const { tag, args } = this.#reads[count]!
      if (!ask(tag, args)) break
      this.bytes -= argumentBytes(args)
      count++
    }
    this.#reads.splice(0, count)
  }

  clear(): void {
    this.#reads = []
    this.bytes = 0
  }
}
