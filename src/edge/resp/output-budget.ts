/**
 * What all clients of a node together have been answered and have not taken, bounded. What it takes for one connection
 * is in answers.ts and deferred-reads.ts.
 *
 * - Above `mostBytes` the budget is tight: who has answers to take is answered, and taken from, no more until then.
 * - While it is tight, the client that has taken nothing for the longest time, and for `stallMilliseconds` at least, is
 *   cut off; above `mostBytes` by as much again the one with most to take, at once.
 */
import { type Holder, type Log, cutOff, longestSilent } from './holders.ts'

/** A connection that holds answers; it is silent since it last took some of them, or had none to take. */
export interface Consumer extends Holder {
  /** Looks at both as they are now: the last that a client takes is not told. */
  recount(): void
  /** The budget may not be tight any more. */
  goOn(): void
}

export interface OutputBounds {
  readonly mostBytes: number
  readonly stallMilliseconds: number
}

const LOOK_MILLISECONDS = 100

export class OutputBudget {
  readonly #bounds: OutputBounds
  readonly #consumers: () => Iterable<Consumer>
  readonly #log: Log
  #timer: NodeJS.Timeout | null = null
  /** Bytes that all of them hold. */
  heldBytes = 0
  /** Clients that were cut off. */
  cutOff = 0

  constructor(bounds: OutputBounds, consumers: () => Iterable<Consumer>, log: Log) {
    this.#bounds = bounds
    this.#log = log
    this.#consumers = consumers
  }

  get isTight(): boolean {
    return this.heldBytes > this.#bounds.mostBytes
  }

  /** Nobody is to be answered more. */
  get isExceeded(): boolean {
    return this.heldBytes > 2 * this.#bounds.mostBytes
  }

  /** So many bytes more, or fewer, are held. */
  count(bytes: number): void {
    this.heldBytes += bytes
    if (this.#timer === null && this.isTight) this.#lookIn(LOOK_MILLISECONDS)
    if (this.isExceeded) this.#lookIn(0)
  }

  #lookIn(milliseconds: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#look(), milliseconds)
    this.#timer.unref()
  }

  #look(): void {
    this.#timer = null
    for (const consumer of this.#consumers()) consumer.recount()
    while (this.isExceeded && this.#cutLargest());
    if (this.isTight) this.#cutSlowest()
    for (const consumer of this.#consumers()) consumer.goOn()
    if (this.#timer === null && this.isTight) this.#lookIn(LOOK_MILLISECONDS)
  }

  #cutLargest(): boolean {
    let largest: Consumer | null = null
    for (const consumer of this.#consumers()) {
      if (consumer.heldBytes > (largest?.heldBytes ?? 0)) largest = consumer
    }
    if (largest) this.#cut(largest, 'all clients together have too much to take, and it has most')
    return largest !== null
  }

  #cutSlowest(): void {
    const slowest = longestSilent(this.#consumers())
    const { stallMilliseconds } = this.#bounds
    if (slowest === null || performance.now() - slowest.silentSince <= stallMilliseconds) return
    this.#cut(slowest, `it has taken nothing for ${stallMilliseconds} ms while all have too much to take`)
  }

  #cut(consumer: Consumer, why: string): void {
    this.cutOff++
    cutOff(consumer, 'CLIENT_TOO_SLOW', why, this.#log)
  }
}
